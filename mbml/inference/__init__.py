"""Inference that is no learner: exact answers on small problems, and steps that learners share."""
