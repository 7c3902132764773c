"""Learners that compare a query point with the support set by a learned distance."""
