import math

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.testing import assert_close

from mbml import nets, noise
from mbml.distributions import DiagonalGaussian
from mbml.inference.flat import flatten, unflatten
from mbml.inference.kronecker import Block, Kronecker, kfac
from mbml.inference.laplace import ggn
from mbml.nets.stacked import Conv2d, Headed, stack
from mbml.targets import Logits

B, TAU = 2, 0.7


class Patches(nn.Module):
    """A convolution that sees the whole image, and one of single pixels: one place each."""

    def __init__(self) -> None:
        super().__init__()
        self.whole, self.pixel = Conv2d(2, 3, 3), Conv2d(3, 4, 1, bias=False)
        self.features = 4

    def forward(self, x, split=None):
        return torch.tanh(self.pixel(torch.tanh(self.whole(x)))).flatten(2)


def case(kind: str, points: int):
    """A model, each task's own weights, outputs at points."""
    torch.manual_seed(0)
    net = nets.MLP(2, [3], 3, activation=nn.Tanh) if kind == "mlp" else Headed(Patches(), 3)
    net = net.double()
    shape = (2,) if kind == "mlp" else (2, 3, 3)
    x = torch.randn(B, points, *shape, dtype=torch.float64)
    weights = {n: (w + 0.3 * torch.randn_like(w)).detach() for n, w in stack(net, B).items()}
    return net, weights, lambda w: functional_call(net, dict(w), (x,))


def dense(H: Kronecker):
    """H as a matrix `[B, P, P]`, its rows laid out as the weights are."""
    whole = []
    for b in range(B):
        parts = []
        for name, block in H.blocks.items():
            A, G = block.inputs[b], block.outputs[b]
            O, I, fan_in = len(G), len(A), H.shapes[f"{name}.weight"][1:].numel()
            order = torch.arange(O * I).view(O, I)
            order = torch.cat([order[:, :fan_in].flatten(), order[:, fan_in:].flatten()])
            parts.append(torch.kron(G, A)[order][:, order])
        M = torch.block_diag(*parts)
        whole.append(M + H.tau * torch.eye(len(M), dtype=M.dtype))
    return torch.stack(whole)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_for_one_point_every_block_is_exact(kind):
    model, weights, outputs = case(kind, 1)
    H = kfac(model, outputs, weights, Logits, TAU)
    exact, approximate = ggn(outputs, weights, Logits, TAU).matrix, dense(H)
    at = 0
    for name in H.blocks:
        size = sum(s.numel() for n, s in H.shapes.items() if n.rpartition(".")[0] == name)
        block = slice(at, at + size)
        assert_close(approximate[:, block, block], exact[:, block, block])
        at += size
    assert at == exact.shape[-1] and len(H.blocks) == (2 if kind == "mlp" else 3)


def test_factors_of_several_points_by_hand():
    model, weights, outputs = case("mlp", 4)
    H = kfac(model, outputs, weights, Logits, TAU)
    f = outputs(weights)
    p = f.softmax(-1)
    # the last layer: G = sum_q diag(p) - p p^T, A = mean of what enters it
    assert_close(H.blocks["2"].outputs, (p.diag_embed() - p[..., None] * p[..., None, :]).sum(1))
    bias_row = H.blocks["2"].inputs[:, -1]
    (slope,) = torch.autograd.grad(
        functional_call(model, {n: w.requires_grad_() for n, w in weights.items()},
                        (torch.zeros(B, 1, 2, dtype=torch.float64),)).sum(),
        weights["2.bias"],
    )
    assert_close(bias_row[:, -1], slope[:, 0])  # a bias enters as 1
    assert H.blocks["2"].inputs.shape == (B, 4, 4)


def test_places_of_a_convolution():
    # A = mean over points of the sum over places, G = sum over points of the mean over places
    torch.manual_seed(0)
    conv = Conv2d(1, 2, 2, bias=False).double()
    x = torch.randn(B, 3, 1, 3, 3, dtype=torch.float64)
    weights = {n: w.detach() for n, w in stack(conv, B).items()}

    def outputs(w):
        return functional_call(conv, dict(w), (x,)).square().flatten(2)  # [B, P, 2 * 4]

    block = kfac(
        conv, outputs, weights, lambda f: DiagonalGaussian(f, torch.zeros(())), TAU
    ).blocks[""]
    A, G = torch.zeros(B, 4, 4).double(), torch.zeros(B, 2, 2).double()
    for b in range(B):
        for point in x[b]:
            for i in range(2):
                for j in range(2):
                    a = point[0, i : i + 2, j : j + 2].flatten()
                    A[b] += a.outer(a) / 3
                    left = (conv.weight.flatten(1) @ a).detach()
                    for c in range(2):
                        g = torch.zeros(2).double()
                        g[c] = 2 * left[c]
                        G[b] += g.outer(g) / 4
    assert_close(block.inputs, A)
    assert_close(block.outputs, G)


def test_determinant_and_draws_are_those_of_the_dense_matrix():
    model, weights, outputs = case("mlp", 5)
    H = kfac(model, outputs, weights, Logits, TAU)
    matrix = dense(H)
    assert_close(H.log_det(), torch.logdet(matrix))
    assert_close(H.log_shrinkage(), torch.logdet(matrix / TAU))
    torch.manual_seed(0)
    draws = H.sample(100_000)
    for b in range(B):
        assert_close(torch.cov(draws[:, b].T), torch.linalg.inv(matrix[b]), rtol=0.02, atol=0.02)


def test_its_gradient_by_finite_differences():
    model, weights, outputs = case("mlp", 2)
    shapes = {n: w.shape[1:] for n, w in weights.items()}

    def log_det(phi):
        return kfac(model, outputs, unflatten(phi, shapes), Logits, TAU).log_det()

    assert torch.autograd.gradcheck(log_det, flatten(weights).requires_grad_(), fast_mode=True)


def test_draws_are_keyed_by_task_and_what_is_lost_is_seen():
    torch.manual_seed(0)
    A, G = (x @ x.mT for x in (torch.randn(B, 3, 3), torch.randn(B, 2, 2)))
    shapes = {"l.weight": torch.Size([2, 3])}

    def draw(first, end):
        place = {"device": torch.device("cpu"), "total": B}
        with noise.of_tasks(3, first=first, present=end - first, **place):
            return Kronecker({"l": Block(A[first:end], G[first:end])}, shapes, TAU).sample(4)

    assert_close(draw(0, 2), torch.cat([draw(0, 1), draw(1, 2)], dim=1))
    A[1] = math.nan
    H = Kronecker({"l": Block(A, G)}, shapes, TAU)
    assert H.log_det().isnan().tolist() == [False, True]
    assert H.sample(1).isnan().all(-1).tolist() == [[False, True]]
    with pytest.raises(ValueError, match=r"tau=0.0 must be positive"):
        Kronecker({}, {}, 0.0)
    with pytest.raises(ValueError, match="Kronecker factors are of linear layers"):
        kfac(nn.Tanh(), lambda w: w, {}, Logits, TAU)
