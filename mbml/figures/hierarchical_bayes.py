"""Figures of the chapter on MAML as hierarchical Bayes: priors in disguise, what a point omits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from mbml.distributions import LOG_2PI
from mbml.episodes import Examples
from mbml.evaluate import Estimate
from mbml.figures.inference import line
from mbml.figures.style import COLOURS, look, styled, subplots
from mbml.inference.descent import Weights
from mbml.inference.laplace import Curvature, jacobian, log_evidence
from mbml.learners.bayes.llama import Llama
from mbml.predictive import GaussianMixture

GREY = "#767676"
STARTED, FOUND = COLOURS["prior"], COLOURS["maml"]


@dataclass(frozen=True, eq=False)
class Quadratic:
    """Minus the log-likelihood of a linear model with two weights, and a start.

    Args:
        X, y: the points, `[S, 2]` and `[S]`, seen with noise of standard deviation 1.
        start: theta, `[2]`.
    """

    X: Tensor
    y: Tensor
    start: Tensor

    @property
    def hessian(self) -> Tensor:
        return self.X.mT @ self.X

    def loss(self, weights: Weights) -> Tensor:
        """Of weights `{"w": [B, 2]}`: `[B]`."""
        return 0.5 * (self.y - weights["w"] @ self.X.mT).square().sum(-1)

    @property
    def slope(self) -> Tensor:
        """At the start."""
        return self.X.mT @ (self.X @ self.start - self.y)


def outline(mean: Tensor, covariance: Tensor, level: float = 0.9) -> Tensor:
    """Of the region of a Gaussian in two dimensions that holds a mass: `[100, 2]`."""
    turn = torch.linspace(0, 2 * math.pi, 100, dtype=mean.dtype)
    circle = torch.stack([turn.cos(), turn.sin()], -1)
    # P(r^2 <= t) = 1 - exp(-t / 2)
    radius = math.sqrt(-2 * math.log(1 - level))
    return mean + radius * circle @ torch.linalg.cholesky(covariance).mT


@styled()
def stopped(tasks: Mapping[str, Quadratic], paths: Mapping[str, Tensor],
            priors: Mapping[str, Tensor], k: int) -> tuple[Figure, dict]:
    """A panel a task: lines of equal likelihood, a descent, and 90% of a prior around its start.

    Args:
        paths: of each task's descent, `[n, 2]`, n > k; steps beyond k are not drawn.
        priors: covariance of each task's prior, `[2, 2]`.
    """
    axis = torch.linspace(-3.2, 3.2, 97, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    fig, axes = subplots(1, len(tasks), height=3.9, sharey=True, squeeze=False)
    data: dict = {"k": k}
    for ax, (title, task) in zip(axes.flat, tasks.items(), strict=True):
        table = task.loss({"w": grid}).view(97, 97).mT
        least = float(table.min())
        ax.contour(axis, axis, table, levels=[least + v for v in (0.1, 0.5, 1.5, 4, 9, 18)],
                   colors=GREY, linewidths=0.7)
        ax.plot(*outline(task.start, priors[title]).mT, lw=2, color=COLOURS["imaml"],
                label="90% of the prior")
        path = paths[title][: k + 1]
        ax.plot(*path.mT, color=FOUND, lw=1.4, marker="o", markersize=3.5, label="descent")
        ax.plot(*task.start, "s", color=STARTED, markersize=8, markeredgecolor="white",
                label="start", zorder=5)
        ax.plot(*path[-1], "o", color=FOUND, markersize=9, markeredgecolor="white", zorder=6)
        ax.set(title=title, xlabel="first weight", xlim=(-3.2, 3.2), ylim=(-3.2, 3.2))
        ax.set_aspect("equal")
        data[title] = {"end": path[-1].tolist(), "covariance": priors[title].tolist()}
    axes[0, 0].set_ylabel("second weight")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig, data


@styled()
def clouds(means: Tensor, points: Tensor, path: Tensor, prior: Tensor) -> tuple[Figure, dict]:
    """Tasks that are clouds of points, and the way of a start through training.

    Args:
        means: of some tasks, `[n, 2]`.
        points: of the same tasks, `[n, S, 2]`.
        path: of the start, `[steps, 2]`.
        prior: the mean of the tasks' means, `[2]`.
    """
    rings = []
    for cloud in points:  # an ellipse a task, of its own points
        rest = cloud - cloud.mean(0)
        rings.append(outline(cloud.mean(0), rest.mT @ rest / (len(cloud) - 1), 0.5))
    everything = torch.cat([*rings, path, prior[None]])
    low, high = everything.min(0).values - 0.2, everything.max(0).values + 0.2
    wide, tall = (high - low).tolist()
    fig, ax = subplots(height=min(6.0, 0.9 + 5.4 * tall / wide))
    for i, (ring, mean) in enumerate(zip(rings, means, strict=True)):
        ax.plot(*ring.mT, color=GREY, lw=1, alpha=0.8, label="half of a task" if i == 0 else None)
        ax.plot(*mean, ".", color=GREY, markersize=5)
    ax.plot(*path.mT, color=FOUND, lw=2, label="MAML's start in training")
    ax.plot(*path[0], "s", color=FOUND, markersize=7, markeredgecolor="white")
    ax.plot(*path[-1], "o", color=FOUND, markersize=9, markeredgecolor="white", zorder=5)
    ax.plot(*prior, "x", color=COLOURS["truth"], markersize=13, markeredgewidth=2.5, ls="",
            label="mean of the prior", zorder=6)
    ax.set(xlabel="first coordinate", ylabel="second coordinate",
           xlim=(float(low[0]), float(high[0])), ylim=(float(low[1]), float(high[1])))
    ax.set_aspect("equal")
    fig.legend(loc="outside upper center", ncols=3, columnspacing=1.2, handlelength=1.6)
    return fig, {"start": path[0].tolist(), "end": path[-1].tolist(), "prior": prior.tolist()}


@styled()
def strength(steps: Sequence[int], found: Mapping[int, Sequence[float]],
             exact: Mapping[int, float]) -> tuple[Figure, dict]:
    """Squared error of an adapted mean against inner steps, for several numbers of points.

    Args:
        steps: rising.
        found: of each number of points, the error after each number of steps.
        exact: of each number of points, that of the posterior's mean.
    """
    fig, ax = subplots(height=4.0)
    data: dict = {"steps": list(steps)}
    looks = zip(("-", "--", "-."), ("o", "s", "^"), strict=True)
    for (n, row), (style, mark) in zip(found.items(), looks, strict=False):
        ax.plot(steps, row, style, marker=mark, markersize=4, color=FOUND,
                label=f"MAML, {n} points")
        ax.axhline(exact[n], ls=style, color=COLOURS["exact"], lw=1.2, label=f"exact, {n} points")
        data[str(n)] = {"maml": [round(v, 5) for v in row], "exact": round(exact[n], 5)}
    ax.set(yscale="log", xlabel="inner steps", ylabel="squared error of the task's mean")
    ticks = [t for t in (0.02, 0.05, 0.1, 0.2, 0.5) if t < max(max(r) for r in found.values())]
    ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
    ax.set_yticks([], minor=True)
    fig.legend(loc="outside upper center", ncols=3)
    return fig, data


@dataclass(frozen=True, eq=False)
class OneUnknown:
    """A model with one unknown psi and a prior N(0, 1 / tau).

    Args:
        output: psi `[G]`, inputs `[n]` -> f, `[G, n]`.
        noise: standard deviation of real targets; None for labels 0 and 1 with logits f.
        tau: precision of the prior.
    """

    output: Callable[[Tensor, Tensor], Tensor]
    noise: float | None
    tau: float = 1.0

    def log_joint(self, psi: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """log p(y, psi), `[G]`."""
        f = self.output(psi, x)
        if self.noise is None:
            each = F.logsigmoid((2 * y - 1) * f)
        else:
            each = -0.5 * (((y - f) / self.noise).square() + LOG_2PI) - math.log(self.noise)
        prior = 0.5 * (math.log(self.tau) - LOG_2PI - self.tau * psi.square())
        return each.sum(-1) + prior

    def curvature(self, psi: Tensor, x: Tensor) -> Curvature:
        """Generalised Gauss-Newton, at one psi `[1]`."""
        slope = torch.func.jacrev(lambda p: self.output(p, x))(psi)[..., 0]
        if self.noise is None:
            p = self.output(psi, x).sigmoid()
            rows = (p * (1 - p)).sqrt() * slope
        else:
            rows = slope / self.noise
        return Curvature(rows[..., None], self.tau)

    def laplace(self, x: Tensor, y: Tensor, grid: Tensor) -> tuple[Tensor, Curvature, Tensor]:
        """Mode `[1]`, curvature there and log evidence `[1]`: from the best point of a grid by
        Gauss-Newton steps."""
        psi = grid[self.log_joint(grid, x, y).argmax()][None]
        for _ in range(20):
            H = self.curvature(psi, x)
            slope = torch.func.grad(lambda p: self.log_joint(p, x, y).sum())(psi)
            psi = psi + H.solve(slope[:, None])[:, 0]
        H = self.curvature(psi, x)
        return psi, H, log_evidence(self.log_joint(psi, x, y), H)


@styled()
def laplace(models: Mapping[str, OneUnknown], points: Mapping[str, tuple[Tensor, Tensor]],
            n: int) -> tuple[Figure, dict]:
    """A panel a model: the exact posterior given its first n points, and Laplace's Gaussian.

    Returns:
        The figure, and the log evidence of each model by quadrature and by Laplace's method.
    """
    fig, axes = subplots(1, len(models), height=3.6, squeeze=False)
    grid = torch.linspace(-8, 8, 16001, dtype=torch.float64)
    data: dict = {"n": n}
    for ax, (title, model) in zip(axes.flat, models.items(), strict=True):
        x, y = (values[:n] for values in points[title])
        joint = model.log_joint(grid, x, y)
        exact = float(joint.logsumexp(0) + math.log(float(grid[1] - grid[0])))
        mode, H, approximate = model.laplace(x, y, grid)
        precision = float(H.matrix)
        highest = math.sqrt(precision / 2 / math.pi)
        normal = highest * (-0.5 * precision * (grid - mode).square()).exp()
        ax.plot(grid, normal, label="Laplace", lw=5, alpha=0.6, color=COLOURS["abml"])
        ax.plot(grid, (joint - exact).exp(), label="exact", lw=1.2, **line("exact"))
        high = 1.15 * float(torch.maximum((joint - exact).exp().max(), normal.max()))
        error = round(float(approximate) - exact, 2) + 0.0  # no -0.00
        ax.set(title=f"{title}\nerror {error:+.2f} nats", xlim=(-4.2, 4.2), ylim=(0, high),
               yticks=(), xlabel=r"$\psi$")
        data[title] = {"exact": exact, "laplace": float(approximate)}
    axes[0, 0].set_ylabel("density")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig, data


class Linearised(Llama):
    """LLAMA whose predictions take the outputs for linear in the weights, as H does.

    The variance of a prediction is then sigma^2 + J H^-1 J^T, without draws; for regression with
    one output.
    """

    def predict(self, support: Examples, query_x: Tensor,
                draws: int | None = None) -> GaussianMixture:
        self.check_all(support, query_x)
        adapted = self.adapt(support, self.test_steps)[-1]
        adapted = {name: w.detach() for name, w in adapted.items()}
        H = self.around(adapted, support, None, self.test_steps)
        J = jacobian(lambda w: self.query_outputs(w, support, query_x), adapted)[:, :, 0]
        # [B, Q, P]: J H^-1 J^T of every query point
        variance = (J.movedim(1, 0) * H.solve(J.movedim(1, 0))).sum(-1).mT + self.noise**2
        mean = self.query_outputs(adapted, support, query_x).detach()
        return GaussianMixture(mean[None], variance.log().detach()[None, ..., None])


@styled()
def widths(taus: Sequence[float], found: Mapping[str, Sequence[Mapping[str, Estimate]]],
           exact: Mapping[str, Estimate], implied: float) -> tuple[Figure, dict]:
    """NLL and coverage of 90% intervals against the precision of the prior.

    Args:
        taus: precisions, of all but the exact answer.
        found: of "draws" and "linearised", the scores at each.
        exact: scores of the exact answer.
        implied: the precision to which the inner steps amount, marked.
    """
    styles = {"draws": look("llama") | {"label": "LLAMA, draws"},
              "linearised": look("llama") | {"label": "LLAMA, linearised", "linestyle": "--",
                                             "marker": "s"}}
    fig, axes = subplots(2, 1, height=5.6, sharex=True)
    data: dict = {"taus": list(taus), "implied": implied}
    for ax, key in zip(axes, ("nll", "coverage90"), strict=True):
        for name, rows in found.items():
            values = [row[key].mean for row in rows]
            ax.plot(taus, values, **styles[name])
            data.setdefault(name, {})[key] = [round(v, 4) for v in values]
        ax.axhline(exact[key].mean, label="exact", **line("exact"))
        ax.axvline(implied, color=GREY, lw=1, ls=":", label="implied by the steps")
        data.setdefault("exact", {})[key] = round(exact[key].mean, 4)
    axes[0].set(ylabel="NLL (nats per point)")
    axes[1].set(xscale="log", xlabel=r"precision $\lambda$ of the prior", ylim=(0, 1.03),
                ylabel="coverage of\n90% intervals")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4,
               columnspacing=1.0, handlelength=1.6)
    return fig, data


@styled()
def solved(steps: Sequence[int], rows: Mapping[str, Mapping[str, Sequence[float]]],
           ) -> tuple[Figure, dict]:
    """How far the inner problem and two outer gradients are from solved, a panel a network.

    Args:
        steps: inner steps, rising.
        rows: of each network the "residual", and the relative errors of the "implicit" gradient
            and of the "unrolled" one.
    """
    styles = {"residual": {"color": GREY, "ls": "--", "marker": "o", "label": "residual"},
              "unrolled": look("maml") | {"label": "unrolled: error"},
              "implicit": look("imaml") | {"label": "implicit: error"}}
    fig, axes = subplots(1, len(rows), height=3.6, sharey=True, squeeze=False)
    data: dict = {"steps": list(steps)}
    for ax, (title, curves) in zip(axes.flat, rows.items(), strict=True):
        for name, values in curves.items():
            ax.plot(steps, values, **styles[name])
        ax.set(title=title, xscale="log", yscale="log", xlabel="inner steps")
        ax.set_xticks(list(steps), [str(k) for k in steps])
        ax.set_xticks([], minor=True)
        data[title] = {name: [float(f"{v:.4g}") for v in row] for name, row in curves.items()}
    axes[0, 0].set_ylabel("relative to the start, or to\nthe true gradient")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig, data
