import pytest
import torch

from mbml.episodes import Episodes, Examples
from mbml.figures.episodes import episode_figure, learning_figure


def episodes(channels: int = 1) -> Episodes:
    """Two tasks of two classes; the brightness of an image tells its place."""
    def examples(labels: list[int], level: float) -> Examples:
        y = torch.tensor([labels, labels])
        x = level * torch.arange(1, y.numel() + 1).reshape(*y.shape, 1, 1, 1).float()
        return Examples(x.expand(-1, -1, channels, 4, 4), y, ways=2)
    return Episodes(examples([0, 1, 0], 1.0), examples([1, 1, 0, 1], 0.5))


@pytest.mark.parametrize("channels", [1, 3])
def test_images_stand_with_their_class(channels):
    fig, data = episode_figure(episodes(channels), task=1, classes=["ant", "bee"])
    # Task 1: support brightness 4, 5, 6; query 2.5, 3, 3.5, 4; stretched from 2.5..6 to 0..1.
    def place(*values):
        return [round((value - 2.5) / 3.5, 4) for value in values]
    assert data["classes"] == [
        {"class": "ant", "support": 2, "query": 1,
         "brightness": {"support": place(4, 6), "query": place(3.5)}},
        {"class": "bee", "support": 1, "query": 3,
         "brightness": {"support": place(5), "query": place(2.5, 3, 4)}}]
    left, right = fig.axes
    assert len(left.images) == 3 and len(right.images) == 4
    assert [label.get_text() for label in left.get_yticklabels()] == ["ant", "bee"]


def test_no_more_images_than_asked():
    fig, data = episode_figure(episodes(), support=1, query=2)
    assert [len(ax.images) for ax in fig.axes] == [2, 3]
    assert data["classes"][1]["query"] == 3


def test_wrong_predictions_are_framed():
    fig, _ = episode_figure(episodes(), predicted=[1, 0, 0, 0])
    assert len(fig.axes[1].lines) == 2 and len(fig.axes[0].lines) == 0
    fig, _ = episode_figure(episodes(), predicted=[1, 1, 0, 1])
    assert not fig.axes[1].lines


def test_bad_input_is_refused():
    flat = Episodes(Examples(torch.zeros(1, 2, 3)), Examples(torch.zeros(1, 2, 3)))
    with pytest.raises(ValueError, match="labelled images"):
        episode_figure(flat)
    with pytest.raises(ValueError, match="2 classes need as many names, not 1"):
        episode_figure(episodes(), classes=["ant"])


def test_learning_curves_are_the_points_given():
    curve = [(0, 0.2), (100, torch.tensor(0.5)), (200, 0.75)]
    fig, data = learning_figure({"prototypical": curve}, metric="accuracy", chance=0.2)
    assert data == {"prototypical": [[0.0, 0.2], [100.0, 0.5], [200.0, 0.75]]}
    ax = fig.axes[0]
    assert ax.lines[0].get_xydata().tolist() == data["prototypical"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["prototypical", "chance"]


def test_learning_curves_refuse_names_and_nothing():
    with pytest.raises(ValueError, match="no points"):
        learning_figure({"versa": []}, metric="accuracy")
    with pytest.raises(ValueError, match="no colour"):
        learning_figure({"mine": [(0, 1.0)]}, metric="accuracy")
