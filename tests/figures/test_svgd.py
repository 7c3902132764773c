import math

import pytest
import torch

from mbml.figures import svgd


def density(x):
    return torch.exp(-0.5 * x.square()) / math.sqrt(2 * math.pi)


def test_a_panel_a_method_with_all_of_its_particles():
    particles = {"alone": torch.tensor([-20.0, 0.0, 1.0]), "together": torch.tensor([0.5, 1.0])}
    fig, data = svgd.line_figure(density, particles, 7)
    assert [ax.get_title(loc="left") for ax in fig.axes] == list(particles)
    for ax, at in zip(fig.axes, particles.values(), strict=True):
        mass = sum(patch.get_height() * patch.get_width() for patch in ax.patches)
        assert mass == pytest.approx(1)  # those beyond the axis are in its last bin
        assert len(ax.lines[1].get_xdata()) == len(at)
    assert data == {"step": 7, "alone": [-20.0, 0.0, 1.0], "together": [0.5, 1.0]}


def test_forces_are_sorted_and_summed():
    x, drive, apart = torch.tensor([1.0, -1.0]), torch.tensor([2.0, 3.0]), torch.tensor([0.5, -0.5])
    fig, data = svgd.forces_figure(x, drive, apart)
    assert data == {"x": [-1.0, 1.0], "drive": [3.0, 2.0], "repulsion": [-0.5, 0.5]}
    assert list(fig.axes[0].lines[-1].get_ydata()) == [2.5, 2.5]


def test_particles_on_contours():
    at = torch.tensor([[0.0, 1.0], [1.0, 2.0]])
    fig, data = svgd.banana_figure(lambda x: -0.5 * x.square().sum(-1), at)
    assert list(fig.axes[0].lines[0].get_ydata()) == [1.0, 2.0] and data["particles"] == at.tolist()


def test_the_line_is_the_closed_form_where_it_holds():
    fig, data = svgd.collapse_figure([1, 4, 10], {3: [0.7, 0.3, 0.1]})
    line = fig.axes[0].lines[1]
    D = line.get_xdata()
    assert min(D) >= 2 and line.get_ydata()[-1] == pytest.approx(math.log(4) * 2 / 3 / D[-1])
    assert data == {"dimensions": [1, 4, 10], "3": [0.7, 0.3, 0.1]}
