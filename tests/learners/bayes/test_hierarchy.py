"""What MAML's descent means as inference: Section 3 of Grant et al. (2018), where truth is known."""

import torch
from torch.testing import assert_close

from mbml import Episodes, Examples, nets
from mbml.inference.flat import flatten
from mbml.learners.gradient.maml import Maml


def test_a_truncated_descent_of_a_linear_model_is_the_most_probable_point_of_a_gaussian_prior():
    torch.manual_seed(0)
    k, alpha, S = 3, 0.1, 2
    learner = Maml(net=nets.MLP(3, [], 1), rate=alpha, steps=k).double()
    x = torch.randn(2, S, 3, dtype=torch.float64)
    support = Examples(x, torch.randn(2, S, 1, dtype=torch.float64))
    path = [flatten(at) for at in learner.adapt(support, k)]
    # the loss is |y - A phi|^2 / S: its Hessian is O diag(e) O^T
    A = torch.cat([x, torch.ones(2, S, 1)], -1)
    e, O = torch.linalg.eigh(2 / S * A.mT @ A)
    # N(theta, O diag(q) O^T) with q = ((1 - alpha e)^-k - 1) / e, or k alpha where e = 0
    flat = e < 1e-9
    assert flat.sum(-1).tolist() == [2, 2]  # two points for four weights
    q = torch.where(flat, k * alpha, ((1 - alpha * e) ** -k - 1) / e.clamp_min(1e-9))
    precision = O @ (1 / q).diag_embed() @ O.mT
    # argmin |y - A phi|^2 / S + 1/2 (phi - theta)^T precision (phi - theta)
    right = 2 / S * (A.mT @ support.y).squeeze(-1) + (precision @ path[0][..., None]).squeeze(-1)
    assert_close(path[-1], torch.linalg.solve(2 / S * A.mT @ A + precision, right))


def test_maml_recovers_the_mean_of_a_normal_inverse_wishart_prior():
    # tasks: Sigma ~ W^-1(I, nu), m ~ N(m0, Sigma / kappa), points ~ N(m, Sigma), in two dimensions
    g = torch.Generator().manual_seed(0)
    m0, kappa, nu, tasks, points = torch.tensor([1.5, -0.7]), 2.0, 8, 400, 10
    torch.manual_seed(0)
    learner = Maml(net=nets.MLP(1, [], 2), rate=0.1)
    learner.model[0].weight.requires_grad_(False)
    optimizer = torch.optim.SGD(learner.parameters(), lr=0.3)
    late = []
    for step in range(120):
        half = torch.randn(tasks, nu, 2, generator=g)
        factor = torch.linalg.cholesky(torch.linalg.inv(half.mT @ half))

        def draw(n, factor=factor):
            return torch.randn(tasks, n, 2, generator=g) @ factor.mT

        m = m0 + draw(1) / kappa**0.5
        y = m + draw(2 * points)
        x = torch.zeros(tasks, points, 1)  # the bias is all there is
        optimizer.zero_grad()
        learner.loss(Episodes(Examples(x, y[:, :points]), Examples(x, y[:, points:]))).total.backward()
        optimizer.step()
        late += [learner.model[0].bias.detach().clone()] * (step >= 60)
    start = nets.MLP(1, [], 2)[0].bias
    assert (start - m0).norm() > 1
    # 60 x 400 tasks leave a standard error of about 0.003
    assert_close(torch.stack(late).mean(0), m0, rtol=0, atol=0.02)
