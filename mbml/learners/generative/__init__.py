"""Learners that model unlabelled data sets and answer with a distribution over latents."""
