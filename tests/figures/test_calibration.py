import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from mbml.figures.calibration import expected_error, reliability_bins, reliability_figure


def predictions(sharpness: float, n: int = 4000):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(n, 4))
    true = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    labels = (true.cumsum(-1) < rng.random((n, 1))).sum(-1)
    claimed = np.exp(sharpness * z)
    return claimed / claimed.sum(-1, keepdims=True), labels


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_expected_error_is_that_of_torchmetrics(sharpness):
    probabilities, labels = predictions(sharpness)
    theirs = multiclass_calibration_error(torch.tensor(probabilities), torch.tensor(labels),
                                          num_classes=4, n_bins=15, norm="l1")
    assert expected_error(reliability_bins(probabilities, labels)) == pytest.approx(
        float(theirs), abs=1e-5)


def test_the_truth_is_calibrated_and_a_sharpened_truth_is_not():
    _, data = reliability_figure({"samovar": predictions(1.0), "versa": predictions(3.0)})
    assert data["samovar"]["ece"] < 0.03 and data["versa"]["ece"] > 0.15
    assert sum(record["count"] for record in data["versa"]["bins"]) == 4000


def test_bins_by_hand():
    records = reliability_bins([[0.5, 0.5], [0.6, 0.4], [0.2, 0.8]], [0, 1, 1], bins=2)
    assert [record["count"] for record in records] == [1, 2]
    assert records[0]["accuracy"] == 1 and records[1]["accuracy"] == 0.5
    assert records[1]["confidence"] == pytest.approx(0.7)
    # 1/3 |1 - 0.5| + 2/3 |0.5 - 0.7|
    assert expected_error(records) == pytest.approx(0.3)


def test_the_figure_prints_its_error_and_its_counts():
    fig, data = reliability_figure({"versa": predictions(1.0)}, labels={"versa": "VERSA"})
    top, bottom = fig.axes
    assert top.get_title(loc="left") == "VERSA"
    assert f"ECE {100 * data['versa']['ece']:.1f}%" in [text.get_text() for text in top.texts]
    assert [bar.get_height() for bar in bottom.patches] == [
        record["count"] for record in data["versa"]["bins"]]


@pytest.mark.parametrize("arguments, message", [
    (([[2.0, 1.0]], [0]), "logits"),
    (([[0.5, 0.5]], [0, 1]), "labels of shape"),
])
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        reliability_bins(*arguments)
    with pytest.raises(ValueError, match="one to three"):
        reliability_figure({})
