"""Learners that map a support set to a distribution over the task in one forward pass."""
