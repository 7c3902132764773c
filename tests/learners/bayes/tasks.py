"""Small tasks and learners in 64 bits, for tests that compare to many digits."""

import torch

from mbml import Episodes, Examples, nets, noise


def regression(tasks: int = 3, support: int = 4, queries: int = 5, seed: int = 0) -> Episodes:
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(tasks, support + queries, 1, generator=g, dtype=torch.float64) * 4 - 2
    y = torch.rand(tasks, 1, 1, generator=g, dtype=torch.float64) * 3 * torch.sin(x)
    return Episodes(
        Examples(x[:, :support], y[:, :support]), Examples(x[:, support:], y[:, support:])
    )


def classification(tasks: int = 3, ways: int = 3, seed: int = 0) -> Episodes:
    g = torch.Generator().manual_seed(seed)

    def points(count: int) -> Examples:
        y = torch.arange(count).remainder(ways).expand(tasks, -1)
        x = torch.randn(tasks, count, 2, generator=g, dtype=torch.float64)
        return Examples(x + y[..., None], y, ways)

    return Episodes(points(2 * ways), points(2 * ways + 1))


def smooth(kind, inputs: int = 1, outputs: int = 1, **settings):
    """A learner on a network without kinks, the same weights at every call."""
    torch.manual_seed(0)
    net = nets.MLP(inputs, [4], outputs, activation=torch.nn.Tanh)
    return kind(net=net, **{"rate": 0.1, **settings}).double()


def check_slopes(learner, loss, every: int = 1) -> None:
    """The gradient of `loss()` by central differences, all noise held fixed."""

    def value():
        torch.manual_seed(5)
        return loss()

    learner.zero_grad()
    value().backward()
    for name, p in learner.named_parameters():
        for i in range(0, p.numel(), every):
            shifted = []
            for e in (1e-5, -1e-5):
                with torch.no_grad():
                    p.view(-1)[i] += e
                    shifted.append(value())
                    p.view(-1)[i] -= e
            slope = (shifted[0] - shifted[1]) / 2e-5
            found = p.grad.view(-1)[i]
            assert torch.isclose(found, slope, rtol=1e-4, atol=1e-7), (name, i, found, slope)


def check_tasks_are_alone(learner, tasks: Episodes) -> None:
    """A prediction for a batch is those for its tasks, under the same noise, which matters."""

    def answers(first: int, end: int) -> torch.Tensor:
        place = {"device": torch.device("cpu"), "total": tasks.num_tasks}
        part = tasks[first:end]
        with noise.of_tasks(3, first=first, present=end - first, **place):
            return learner.predict(part.support, part.query.x, draws=150).means

    B = tasks.num_tasks
    alone = torch.cat([answers(b, b + 1) for b in range(B)], dim=1)
    torch.testing.assert_close(answers(0, B), alone)
    assert alone.std(0).min() > 0
