"""Synthetic families of tasks whose truth is known in closed form.

Each is a source (`sample(batch_size, generator) -> Episodes`), and where the exact answer exists
it is given beside it, so that a learner can be compared with the truth and not with a rival.
"""
