import math

import pytest
import torch

from mbml.predictive import Categorical, GaussianMixture
from mbml.uncertainty import SCORES, uncertainty

P = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]])  # two draws of one point


def test_of_classes_by_hand():
    found = {name: float(uncertainty(Categorical.from_logits(P.log()[:, None, None]), name))
             for name in ("entropy", "confidence", "disagreement")}
    mean = [0.4, 0.4, 0.2]
    entropy = -sum(p * math.log(p) for p in mean)
    noise = -sum(p * math.log(p) for p in P.flatten().tolist()) / 2
    assert found["entropy"] == pytest.approx(entropy, rel=1e-5)
    assert found["confidence"] == pytest.approx(0.6, rel=1e-5)
    assert found["disagreement"] == pytest.approx(entropy - noise, rel=1e-4)


def test_of_real_targets_by_hand():
    answer = GaussianMixture(torch.tensor([1.0, 3.0]).view(2, 1, 1, 1), math.log(0.25))
    assert float(uncertainty(answer, "variance")) == pytest.approx(1.25)
    point = GaussianMixture(torch.ones(1, 1, 1, 1), math.log(0.25))
    half_log = 0.5 * math.log(2 * math.pi * math.e * 0.25)
    assert float(uncertainty(point, "entropy")) == pytest.approx(half_log, rel=1e-5)
    assert float(uncertainty(point, "disagreement")) == pytest.approx(0, abs=1e-5)
    two = GaussianMixture(torch.tensor([[1.0, 0.0], [3.0, 4.0]]).view(2, 1, 1, 2), 0.0)
    assert float(uncertainty(two, "variance")) == pytest.approx(2 + 1 + 4)


def test_what_targets_do_not_have():
    point = GaussianMixture(torch.ones(1, 1, 1, 1), 0.0)
    with pytest.raises(ValueError, match="try 'variance'"):
        uncertainty(point, "confidence")
    with pytest.raises(ValueError, match="try 'entropy'"):
        uncertainty(Categorical.from_logits(P.log()[:, None, None]), "variance")
    with pytest.raises(ValueError, match="disagreement"):
        uncertainty(point, "curiosity")
    assert len(SCORES) == 4
