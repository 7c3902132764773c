"""Exponential families against closed forms, and against scipy's densities and integrals."""

import pytest
import torch
from scipy import integrate, stats
from torch import distributions as dist
from torch.testing import assert_close

from mbml.tasks.exponential_families import FAMILIES, TRAINING, FamilyTasks


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def vectors(name: str, tasks: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """One vector of 20 draws of each data set, and its parameter."""
    e = FamilyTasks(name, context=0, query=1).sample(tasks, generator())
    return e.query.x[:, 0].double(), e.query.y[:, 0, 0].double()


SCIPY = {
    "gaussian": lambda t: stats.norm(t, 1),
    "log-normal": lambda t: stats.lognorm(1, scale=torch.tensor(t).exp().item()),
    "exponential": lambda t: stats.expon(scale=1 / t),
    "weibull": lambda t: stats.weibull_min(t),
    "laplace": lambda t: stats.laplace(scale=t),
    "beta": lambda t: stats.beta(t, t),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_draws_and_densities_are_those_of_the_family(name):
    source = FamilyTasks(name)
    psi = torch.tensor([source.parameters(1, generator(3)).item()])
    x, y = source.points(psi, 300, generator())
    exact = SCIPY[name](psi.item())
    assert stats.kstest(x.flatten().double().numpy(), exact.cdf).pvalue > 1e-3
    assert x.shape == (1, 300, 20) and bool((y == psi).all())
    expected = torch.from_numpy(exact.logpdf(x[0, :5].double().numpy()).sum(-1))
    found = FAMILIES[name].log_prob(psi.double(), x[0, :5].double())
    assert_close(found, expected, rtol=1e-5, atol=1e-5)


# another vector with the same statistic
SAME = {
    "gaussian": lambda x: 2 * x.mean(-1, keepdim=True) - x,
    "log-normal": lambda x: (2 * x.log().mean(-1, keepdim=True) - x.log()).exp(),
    "exponential": lambda x: x.mean(-1, keepdim=True).expand_as(x),
    "laplace": lambda x: x.abs().flip(-1),
    "beta": lambda x: torch.where(torch.arange(x.shape[-1]) < 7, 1 - x, x),
    "weibull": lambda x: x.flip(-1),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_vectors_with_one_statistic_say_the_same_of_the_parameter(name):
    family, (x, _) = FAMILIES[name], vectors(name)
    other = SAME[name](x)
    assert not torch.equal(x, other)
    assert_close(family.sufficient(x), family.sufficient(other))
    psi = torch.linspace(0.6, 2, 9, dtype=torch.float64)[:, None]
    difference = family.log_prob(psi, x) - family.log_prob(psi, other)
    assert_close(difference, difference[:1].expand_as(difference))
    assert_close(family.posterior(x)[0], family.posterior(other)[0])
    # and others do not
    moved = x * 0.9
    difference = family.log_prob(psi, x) - family.log_prob(psi, moved)
    assert float(difference.std(0).min()) > 0.01


@pytest.mark.parametrize("name", FAMILIES)
def test_no_parameter_is_likelier_than_the_estimate(name):
    family, (x, _) = FAMILIES[name], vectors(name)
    best = family.most_likely(x)
    assert best.shape == (6,)
    top = family.log_prob(best, x)
    for away in (0.9, 0.99, 1.01, 1.1):
        assert bool((family.log_prob(best * away, x) < top).all())


@pytest.mark.parametrize("name", FAMILIES)
def test_the_posterior_is_the_integral_over_the_range(name):
    family, (x, _) = FAMILIES[name], vectors(name, 2)
    mean, variance = family.posterior(x)
    for row, m, v in zip(x, mean.tolist(), variance.tolist(), strict=True):
        best = family.most_likely(row[None])[0].clamp(family.low, family.high)
        top = float(family.log_prob(best, row))

        def moment(k, row=row, top=top, middle=m):
            def f(t):
                log_p = float(family.log_prob(torch.tensor(t, dtype=torch.float64), row))
                return t**k * torch.tensor(log_p - top).exp().item()

            ends = family.low, family.high
            return integrate.quad(f, *ends, points=[middle], limit=40, epsrel=1e-6)[0]

        total, first, second = (moment(k) for k in range(3))
        assert m == pytest.approx(first / total, abs=1e-4)
        assert v == pytest.approx(second / total - (first / total) ** 2, abs=1e-4)


def test_with_a_gaussian_prior_the_posterior_of_a_mean_is_in_closed_form():
    for name, change in (("gaussian", lambda x: x), ("log-normal", torch.log)):
        x, _ = vectors(name)
        mean, variance = FAMILIES[name].posterior(x, dist.Normal(torch.tensor(0.0).double(), 1.0))
        # N(sum t / (D + 1), 1 / (D + 1))
        assert_close(mean, change(x).sum(-1) / 21, atol=1e-6, rtol=0)
        assert_close(variance, torch.full_like(mean, 1 / 21), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["gaussian", "exponential", "beta"])
def test_the_posterior_variance_is_the_error_of_its_mean(name):
    x, psi = vectors(name, 1500)
    mean, variance = FAMILIES[name].posterior(x, points=301)
    wrong = (mean - psi).square()
    assert float(wrong.mean()) == pytest.approx(float(variance.mean()), rel=0.12)
    # less than that of the estimate, over parameters from the prior
    assert float(wrong.mean()) < float((FAMILIES[name].most_likely(x) - psi).square().mean())


@pytest.mark.parametrize("name, bad", [
    ("exponential", -0.5), ("log-normal", -1.0), ("weibull", -2.0), ("beta", 1.5), ("beta", 1.0),
    ("gaussian", float("nan")), ("laplace", float("nan")),
])
def test_a_number_outside_the_support_is_refused(name, bad):
    family, (x, _) = FAMILIES[name], vectors(name)
    x[2, 3] = bad
    for method in (family.check, family.sufficient, family.most_likely, family.posterior):
        with pytest.raises(ValueError, match=f"{bad:.4g} lies outside the support"):
            method(x)
    with pytest.raises(ValueError, match="outside the support"):
        family.log_prob(torch.ones(6).double(), x)


def test_a_seed_gives_its_data_sets_and_leaves_the_global_stream_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, other = (FamilyTasks("laplace").sample(3, generator(s)) for s in (1, 1))
    assert torch.equal(one.query.x, other.query.x) and torch.equal(before, torch.get_rng_state())
    source = FamilyTasks("weibull", dimensions=2, context=3, query=4)
    stored = source.stored(5, generator(), points=30)
    e = stored.sample(5, generator())
    assert e.support.x.shape == (5, 3, 2) and e.query.y.shape == (5, 4, 1)
    assert torch.equal(e.query.y[:, 0, 0], source.parameters(5, generator())[e.task])


def test_bad_settings_are_refused():
    assert set(TRAINING) < set(FAMILIES)
    with pytest.raises(ValueError, match="did you mean .gaussian"):
        FamilyTasks("gausian")
    with pytest.raises(ValueError, match="dimensions=0"):
        FamilyTasks(dimensions=0)
