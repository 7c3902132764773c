"""Figures of a variational autoencoder with two latents: its map, its drawings, its posteriors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from mbml.distributions import DiagonalGaussian
from mbml.figures.inference import ellipse, mass_contours
from mbml.figures.style import COLOURS, styled, subplots
from mbml.inference.grid import Grid

REACH = 2.6  # of the map, in prior standard deviations to either side


def densest(codes: Tensor) -> Tensor:
    """The point of `codes [P, 2]` in the middle of the closest third of them."""
    nearest = torch.cdist(codes, codes).sort(dim=-1).values[:, : 1 + len(codes) // 3]
    return codes[nearest.mean(-1).argmin()]


@styled()
def traversal(codes: Tensor, labels: Tensor, images: Tensor, z1: float,
              z2: Sequence[float]) -> tuple[Figure, dict]:
    """Where images lie in latent space, and what the decoder draws along one line through it.

    Args:
        codes: `[P, 2]` posterior means, and `labels [P]` the digits they stand for.
        images: `[len(z2), H, W]` decoded at (z1, z2), probabilities of ink; z2 equally spaced.
    """
    fig, (left, right) = subplots(1, 2, height=4.4, width_ratios=(6, 1), sharey=True)
    left.scatter(*codes.T.numpy(), c=labels.numpy(), cmap="tab10", s=9, linewidths=0)
    for digit in range(10):
        x, y = densest(codes[labels == digit]).tolist()
        left.text(x, y, str(digit), ha="center", va="center", fontsize=15, weight="bold",
                  bbox={"boxstyle": "circle,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.7})
    left.axvline(z1, color="black", lw=1.5)
    left.plot([z1] * len(z2), z2, "s", color="black", markersize=5)
    left.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), xlabel="first latent",
             ylabel="second latent")
    # every image stands at the height of the latent that it was decoded from
    side = 0.92 * (z2[1] - z2[0])
    for image, at in zip(images, z2, strict=True):
        box = (0, side, at - side / 2, at + side / 2)
        right.imshow(1 - image.numpy(), cmap="gray", vmin=0, vmax=1, extent=box)
        right.add_patch(Rectangle((0, at - side / 2), side, side, fill=False, ec="#C9C9C9"))
    right.set(xlim=(-0.02, side + 0.02), ylim=(-REACH, REACH), xticks=[], xlabel="decoded")
    right.grid(False)
    right.tick_params(left=False)
    right.spines[:].set_visible(False)
    return fig, {"z1": float(z1), "z2": [float(z) for z in z2],
                 "ink": [round(float(image.mean()), 4) for image in images]}


def square(ax: Axes) -> None:
    """Show all that was drawn in a square of the plane."""
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    reach = 0.55 * max(right - left, high - low)
    ax.set_xlim((left + right) / 2 - reach, (left + right) / 2 + reach)
    ax.set_ylim((low + high) / 2 - reach, (low + high) / 2 + reach)


@styled()
def posteriors(images: Tensor, grid: Grid, log_joint: Tensor,
               q: DiagonalGaussian) -> tuple[Figure, list[dict]]:
    """Exact posterior and encoder's answer for a few `images [P, H, W]`, side by side.

    `log_joint [P, G*G]` is log p(x, z) on the grid; q has means and variances `[P, 2]`.
    """
    P = len(images)
    fig, axes = subplots(2, P, height=4.2, height_ratios=(1, 2.2))
    data = []
    for i, (top, ax) in enumerate(zip(*axes, strict=True)):
        top.imshow(1 - images[i].numpy(), cmap="gray", vmin=0, vmax=1)
        top.set_axis_off()
        probability = grid.normalise(log_joint[i])
        mean, covariance = grid.moments(probability)
        mass_contours(ax, grid, probability, colors="black", linewidths=(1.0, 1.8))
        for level in (0.5, 0.9):
            ax.plot(*ellipse(q.mean[i], q.variance[i], level), color=COLOURS["vae"], lw=2)
        square(ax)
        ax.set(aspect="equal", xlabel="first latent")
        ax.locator_params(nbins=4)
        data.append({"exact_mean": mean.tolist(), "exact_covariance": covariance.tolist(),
                     "q_mean": q.mean[i].tolist(), "q_variance": q.variance[i].tolist()})
    axes[1, 0].set_ylabel("second latent")
    axes[1, -1].plot([], [], color="black", label="exact")
    axes[1, -1].plot([], [], color=COLOURS["vae"], label="encoder")
    fig.legend(*axes[1, -1].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig, data
