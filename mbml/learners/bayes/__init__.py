"""Learners with a distribution over the weights of a task."""
