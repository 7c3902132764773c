"""Learners that adapt weights to a task by gradient steps."""
