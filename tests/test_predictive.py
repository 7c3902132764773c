"""Predictive mixtures against sums written out, numerical integrals and other people's code."""

import math

import pytest
import torch
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import MixtureSameFamily, Normal

from mbml.distributions import DiagonalGaussian, kl
from mbml.predictive import BLOCK, Categorical, GaussianMixture, Predictive

L, B, Q, N, D = 6, 2, 3, 4, 2


def logits(*shape, scale=2.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(*(shape or (L, B, Q, N)), generator=generator, dtype=dtype)


# ---------------------------------------------------------------------------- classification


def test_probabilities_are_averaged_and_logits_are_not():
    # Draw 1 is certain of class 0 through large logits, draws 2 and 3 say class 1 in small ones.
    values = torch.tensor([[30.0, 0.0], [0.0, 3.0], [0.0, 3.0]]).reshape(3, 1, 1, 2)
    p = Categorical.from_logits(values).probs[0, 0]
    agree = math.exp(3) / (1 + math.exp(3))
    torch.testing.assert_close(p, torch.tensor([(1 + 2 * (1 - agree)) / 3, 2 * agree / 3]))
    assert p.argmax() == 1 and values.mean(0).argmax() == 0


def test_classification_is_the_sums_written_out():
    x = logits()
    predictive = Categorical.from_logits(x)
    y = torch.randint(N, (B, Q))
    assert predictive.batch_shape == (B, Q) and predictive.draws == L
    for b in range(B):
        for q in range(Q):
            draws = []
            for one in x[:, b, q].tolist():
                total = sum(math.exp(value) for value in one)
                draws.append([math.exp(value) / total for value in one])
            p = [sum(draw[k] for draw in draws) / L for k in range(N)]
            entropy = -sum(p_k * math.log(p_k) for p_k in p)
            noise = -sum(p_k * math.log(p_k) for draw in draws for p_k in draw) / L
            assert predictive.probs[b, q].tolist() == pytest.approx(p)
            assert predictive.mean[b, q].tolist() == pytest.approx(p)
            assert predictive.log_prob(y)[b, q].item() == pytest.approx(math.log(p[y[b, q]]))
            assert predictive.entropy[b, q].item() == pytest.approx(entropy)
            assert predictive.expected_entropy[b, q].item() == pytest.approx(noise)
            information = predictive.mutual_information[b, q].item()
            assert information == pytest.approx(entropy - noise)


def test_mutual_information_is_the_mean_divergence_of_the_draws_from_the_mixture():
    predictive = Categorical.from_logits(logits())
    p = predictive.functions(L)
    divergence = (p * (p.log() - predictive.log_probs)).sum(-1).mean(0)
    torch.testing.assert_close(predictive.mutual_information, divergence)


def test_draws_that_agree_tell_nothing_about_the_task():
    predictive = Categorical.from_logits(logits()[:1].expand(50, -1, -1, -1).float())
    information = predictive.mutual_information
    assert (information >= 0).all() and (information < 1e-6).all()


def test_draws_that_disagree_with_certainty_hold_all_the_entropy():
    predictive = Categorical.from_logits(1e4 * torch.eye(N).reshape(N, 1, 1, N))
    assert predictive.entropy.item() == pytest.approx(math.log(N))
    assert predictive.expected_entropy.item() == 0
    assert predictive.mutual_information.item() == pytest.approx(math.log(N))


@pytest.mark.parametrize("scale", [1e2, 1e4, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_logits_stay_finite(scale, dtype):
    x = logits(scale=scale, dtype=torch.float32).to(dtype).requires_grad_()
    predictive = Categorical.from_logits(x)
    assert predictive.probs.dtype == torch.float32
    y = torch.randint(N, (B, Q))
    for value in (predictive.log_prob(y), predictive.entropy, predictive.mutual_information):
        assert value.isfinite().all()
    torch.testing.assert_close(predictive.probs.sum(-1), torch.ones(B, Q))
    predictive.entropy.sum().backward()
    assert x.grad.isfinite().all()


def test_a_class_ruled_out_has_no_part_in_the_entropy():
    x = logits()
    x[..., 0] = -torch.inf
    predictive = Categorical.from_logits(x)
    without = Categorical.from_logits(x[..., 1:])
    assert (predictive.probs[..., 0] == 0).all()
    torch.testing.assert_close(predictive.entropy, without.entropy)
    torch.testing.assert_close(predictive.expected_entropy, without.expected_entropy)
    assert (predictive.log_prob(torch.zeros(B, Q, dtype=torch.long)) == -torch.inf).all()


def test_gradient_of_the_log_probability_by_finite_differences():
    y = torch.randint(N, (B, Q))
    x = logits().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: Categorical.from_logits(x).log_prob(y), x)
    assert torch.autograd.gradcheck(lambda x: Categorical.from_logits(x).mutual_information, x)


class Linear:
    """Draws of a linear classifier from a Gaussian, which notes how many it is asked for."""

    def __init__(self):
        self.mean, self.x = logits(1, B, N, D), logits(1, B, Q, D)
        self.asked = []

    def __call__(self, n, generator):
        self.asked.append(n)
        noise = torch.randn(n, B, N, D, generator=generator, dtype=torch.float64)
        return self.x @ (self.mean + noise).mT


def stream(draws, **chunk):
    torch.manual_seed(0)
    draw = Linear()
    return Categorical.stream(draw, draws, **chunk), draw


@pytest.mark.parametrize("draws", [1, BLOCK, 5 * BLOCK + 7])
@pytest.mark.parametrize("chunk", [1, BLOCK + 1, 10_000])
def test_a_stream_is_its_draws_held_at_once(draws, chunk):
    streamed, _ = stream(draws, chunk=chunk)
    generators = range(0, draws, BLOCK)
    torch.manual_seed(0)
    seed = int(torch.randint(2**62, ()))
    at_once = torch.cat(
        [
            Linear()(min(BLOCK, draws - start), torch.Generator().manual_seed(seed + start))
            for start in generators
        ]
    )
    whole = Categorical.from_logits(at_once)
    y = torch.randint(N, (B, Q))
    torch.testing.assert_close(streamed.log_prob(y), whole.log_prob(y))
    torch.testing.assert_close(streamed.entropy, whole.entropy)
    torch.testing.assert_close(streamed.mutual_information, whole.mutual_information)
    n = min(draws, BLOCK + 3)
    assert torch.equal(streamed.functions(n), whole.functions(n))


def test_the_size_of_a_chunk_does_not_change_the_draws():
    small, large = stream(1000, chunk=1)[0], stream(1000, chunk=1000)[0]
    assert torch.equal(small.functions(1000), large.functions(1000))
    torch.testing.assert_close(small.log_probs, large.log_probs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 10, BLOCK, 1000])
def test_logits_may_be_made_of_what_is_drawn_a_part_at_a_time(chunk):
    x, asked = logits(1, B, Q, D), []

    def draw(n, generator):
        asked.append(n)
        return torch.randn(n, B, N, D, generator=generator, dtype=torch.float64)

    def of_weights(w):
        sizes.append(len(w))
        return x @ w.mT

    torch.manual_seed(0)
    whole = Categorical.stream(lambda n, g: x @ draw(n, g).mT, 3 * BLOCK + 5)
    expected, sizes = whole.functions(197), []
    torch.manual_seed(0)
    parts = Categorical.stream(draw, 3 * BLOCK + 5, chunk, logits=of_weights)
    torch.testing.assert_close(parts.probs, whole.probs)
    torch.testing.assert_close(parts.functions(197), expected)
    assert max(sizes) == min(chunk, BLOCK) and max(asked) == BLOCK


def test_ten_thousand_draws_are_never_held_together():
    sizes = []

    class Watched(Categorical):
        def _log_probs(self):
            for part in super()._log_probs():
                sizes.append(part.shape)
                yield part

    def draw(n, generator):
        return torch.randn(n, 1, 75, 5, generator=generator)

    predictive = Watched.stream(draw, 10_000)
    # H of the mean of 10,000 softmaxes of standard normals: uniform up to sampling noise
    assert predictive.probs.sub(0.2).abs().max() < 0.01
    assert predictive.entropy.sub(math.log(5)).abs().max() < 1e-3
    assert predictive.expected_entropy.shape == (1, 75)
    assert sum(shape[0] for shape in sizes) == 10_000, "one pass serves all quantities"
    assert max(shape.numel() for shape in sizes) <= 256 * 75 * 5


def test_a_stream_is_replayed_and_asks_for_no_more_than_a_block():
    predictive, draw = stream(300)
    first = predictive.functions(200)
    torch.manual_seed(1)  # whatever happens to the global stream in between
    assert torch.equal(predictive.functions(200), first)
    assert torch.equal(predictive.functions(5), first[:5])
    assert max(draw.asked) == BLOCK


def test_a_stream_takes_its_seed_from_the_global_random_state():
    torch.manual_seed(0)
    one, two = Categorical.stream(Linear(), 10), Categorical.stream(Linear(), 10)
    assert not torch.equal(one.probs, two.probs)
    torch.manual_seed(0)
    assert torch.equal(Categorical.stream(Linear(), 10).probs, one.probs)


def test_a_stream_predicted_without_gradients_records_none_later():
    weight = torch.ones(N, D, dtype=torch.float64, requires_grad=True)

    def draw(n, generator):
        return logits(n, B, Q, D) @ weight.mT

    with torch.no_grad():
        quiet = Categorical.stream(draw, 10)
    assert not quiet.probs.requires_grad
    assert Categorical.stream(draw, 10).probs.requires_grad


def test_the_mean_of_a_stream_converges_to_the_expectation():
    # E softmax of (z, 0) with z ~ N(1, 4) is E sigmoid(z), here by quadrature
    def draw(n, generator):
        z = 1 + 2 * torch.randn(n, 1, 1, 1, generator=generator, dtype=torch.float64)
        return torch.cat([z, torch.zeros_like(z)], dim=-1)

    t = torch.linspace(-12, 12, 2001, dtype=torch.float64)
    expected = torch.trapezoid(Normal(0, 1).log_prob(t).exp() * (1 + 2 * t).sigmoid(), t)
    torch.manual_seed(0)
    estimate = Categorical.stream(draw, 40_000).probs[0, 0, 0]
    assert estimate.item() == pytest.approx(expected.item(), abs=4 * 0.3 / math.sqrt(40_000))


def test_bad_calls_are_named():
    with pytest.raises(ValueError, match=r"draws, tasks, query points, classes.*not \[2, 3\]"):
        Categorical.from_logits(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="one draw at least"):
        Categorical.from_logits(torch.zeros(0, B, Q, N))
    with pytest.raises(ValueError, match="draws=0"):
        Categorical.stream(Linear(), 0)
    with pytest.raises(ValueError, match="chunk=0"):
        Categorical.stream(Linear(), 5, chunk=0)
    predictive = Categorical.from_logits(logits())
    with pytest.raises(ValueError, match=rf"n in 1..{L}"):
        predictive.functions(L + 1)
    with pytest.raises(ValueError, match=r"shape \[2, 3\] are wanted, not \[2, 1\]"):
        predictive.log_prob(torch.zeros(B, 1, dtype=torch.long))


# -------------------------------------------------------------------------------- regression


def mixture(*shape, spread=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shape = shape or (L, B, Q, 1)
    mean, log_variance = torch.randn(2, *shape, generator=generator, dtype=dtype)
    return GaussianMixture(spread * mean, log_variance)


def by_torch(predictive):
    """torch's mixture over the draws, of every dimension by itself."""
    means, stddevs = predictive.means.movedim(0, -1), (0.5 * predictive.log_variances).exp()
    weights = TorchCategorical(torch.ones_like(means))
    return MixtureSameFamily(weights, Normal(means, stddevs.movedim(0, -1)))


def grid(predictive, nodes=20_001, reach=40.0):
    return torch.linspace(-reach, reach, nodes, dtype=torch.float64).reshape(-1, 1, 1, 1)


def test_moments_density_and_cdf_are_those_of_torch():
    predictive = mixture()
    y = torch.randn(B, Q, 1, dtype=torch.float64)
    torch.testing.assert_close(predictive.mean, by_torch(predictive).mean)
    torch.testing.assert_close(predictive.variance, by_torch(predictive).variance)
    torch.testing.assert_close(predictive.log_prob(y), by_torch(predictive).log_prob(y)[..., 0])
    torch.testing.assert_close(predictive.cdf(y), by_torch(predictive).cdf(y))


def test_the_density_is_joint_over_dimensions():
    predictive = mixture(L, B, Q, D)
    y = torch.randn(B, Q, D, dtype=torch.float64)
    draws = DiagonalGaussian(predictive.means, predictive.log_variances).log_prob(y)
    torch.testing.assert_close(predictive.log_prob(y), draws.exp().mean(0).log())


def test_quantile_inverts_the_cdf():
    predictive = mixture(L, B, Q, D, spread=5)
    p = torch.tensor([1e-6, 0.025, 0.5, 0.9, 1 - 1e-6], dtype=torch.float64)
    q = predictive.quantile(p)
    assert q.shape == (5, B, Q, D) and (q.diff(dim=0) > 0).all()
    torch.testing.assert_close(
        predictive.cdf(q), p.reshape(-1, 1, 1, 1).expand_as(q), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(predictive.quantile(0.9), q[3])


def test_quantile_of_one_draw_is_that_of_a_gaussian():
    predictive = mixture(1, B, Q, D)
    normal = Normal(predictive.means[0], (0.5 * predictive.log_variances[0]).exp())
    expected = normal.icdf(torch.tensor(0.3, dtype=torch.float64))
    torch.testing.assert_close(predictive.quantile(0.3), expected)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
def test_an_interval_holds_its_level_with_equal_tails(level):
    predictive = mixture(dtype=torch.float32)
    low, high = predictive.interval(level)
    tail = torch.full((B, Q, 1), (1 - level) / 2)
    torch.testing.assert_close(predictive.cdf(low), tail, rtol=0, atol=3e-7)
    torch.testing.assert_close(1 - predictive.cdf(high), tail, rtol=0, atol=3e-7)


def test_crps_is_the_integral_of_its_definition():
    predictive = mixture()
    y = torch.randn(B, Q, 1, dtype=torch.float64)
    # CRPS = int (F(x) - 1[x >= y])^2 dx, on either side of the jump at y
    t = torch.linspace(0, 20, 20_001, dtype=torch.float64).reshape(-1, 1, 1, 1)
    squares = predictive.cdf(y - t).square() + (1 - predictive.cdf(y + t)).square()
    expected = torch.trapezoid(squares, t.flatten(), dim=0)
    torch.testing.assert_close(predictive.crps(y), expected, rtol=0, atol=1e-6)


def test_crps_of_a_collapsed_prediction_is_the_absolute_error():
    means = torch.randn(1, B, Q, 1)
    y = torch.randn(B, Q, 1)
    y[0, 0] = means[0, 0, 0]
    for log_variance in (-80.0, -400.0, -torch.inf):
        predictive = GaussianMixture(means, log_variance)
        torch.testing.assert_close(predictive.crps(y), (y - means[0]).abs())
        assert predictive.cdf(y)[0, 0].item() == 0.5


def test_crps_is_of_each_dimension_and_in_the_units_of_y():
    predictive = mixture(L, B, Q, D)
    y = torch.randn(B, Q, D, dtype=torch.float64)
    tenfold = GaussianMixture(
        10 * predictive.means, predictive.log_variances + 2 * math.log(10)
    ).crps(10 * y)
    torch.testing.assert_close(tenfold, 10 * predictive.crps(y))
    one = GaussianMixture(predictive.means[..., :1], predictive.log_variances[..., :1])
    torch.testing.assert_close(one.crps(y[..., :1]), predictive.crps(y)[..., :1])


def test_entropy_is_the_integral_of_its_definition():
    predictive = mixture(spread=3)
    x = grid(predictive)
    log_p = predictive._log_density(x)
    expected = -torch.trapezoid(log_p.exp() * log_p, x[:, 0, 0, 0], dim=0)
    torch.testing.assert_close(predictive.entropy, expected, rtol=0, atol=1e-9)


def test_entropy_of_one_gaussian_is_the_closed_form():
    predictive = mixture(1, B, Q, 1)
    torch.testing.assert_close(predictive.entropy, predictive.expected_entropy)
    assert (predictive.mutual_information < 1e-9).all()


def test_components_far_apart_add_the_entropy_of_the_choice():
    # narrow components beside their distance: 1,000 standard deviations apart
    means = torch.arange(4.0, dtype=torch.float64).reshape(4, 1, 1, 1)
    predictive = GaussianMixture(means, 2 * math.log(1e-3))
    assert predictive.mutual_information.item() == pytest.approx(math.log(4))


def test_mutual_information_of_gaussian_draws_approaches_the_closed_form():
    # psi ~ N(0, v), y | psi ~ N(psi, s2): I = 1/2 log(1 + v / s2); draws at normal quantiles
    v, s2, draws = 2.0, 0.5, 2000
    p = (torch.arange(draws, dtype=torch.float64) + 0.5) / draws
    psi = v**0.5 * torch.special.ndtri(p)
    predictive = GaussianMixture(psi.reshape(-1, 1, 1, 1), math.log(s2))
    expected = 0.5 * math.log(1 + v / s2)
    assert predictive.mutual_information.item() == pytest.approx(expected, abs=1e-3)


def test_what_cannot_be_integrated_is_refused():
    with pytest.raises(ValueError, match="one dimension only, these have D = 2"):
        _ = mixture(L, B, Q, 2).entropy
    with pytest.raises(ValueError, match="too narrow beside"):
        _ = GaussianMixture(torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1), -80.0).entropy
    torch.testing.assert_close(
        mixture(L, B, Q, 2).expected_entropy,
        DiagonalGaussian(mixture(L, B, Q, 2).means, mixture(L, B, Q, 2).log_variances)
        .entropy()
        .mean(0),
    )


def test_one_noise_for_all_points():
    means = torch.randn(L, B, Q, D)
    for noise in (-1.0, torch.tensor(-1.0), torch.full((D,), -1.0), torch.full((L, B, 1, 1), -1.0)):
        predictive = GaussianMixture(means, noise)
        full = GaussianMixture(means, torch.full_like(means, -1.0))
        y = torch.randn(B, Q, D)
        torch.testing.assert_close(predictive.log_prob(y), full.log_prob(y))
        torch.testing.assert_close(predictive.variance, full.variance)


def test_regression_functions_are_the_draws():
    predictive = mixture()
    assert torch.equal(predictive.functions(2), predictive.means[:2])
    with pytest.raises(ValueError, match="n in 1..6"):
        predictive.functions(7)


def test_bad_mixtures_are_named():
    with pytest.raises(ValueError, match=r"draws, tasks, query points, D"):
        GaussianMixture(torch.zeros(B, Q, 1), 0.0)
    with pytest.raises(ValueError, match=r"log_variance \[5\] must broadcast to the mean"):
        GaussianMixture(torch.zeros(L, B, Q, 1), torch.zeros(5))
    with pytest.raises(ValueError, match="wanted"):
        mixture().log_prob(torch.zeros(B, Q))
    for p in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=r"probabilities in \(0, 1\)"):
            mixture().quantile(p)
    with pytest.raises(ValueError, match=r"lies in \(0, 1\), not 95"):
        mixture().interval(95)


@pytest.mark.parametrize("points", [(0, Q), (B, 0)])
def test_no_points_is_a_prediction_too(points):
    y = torch.zeros(*points, 1)
    regression = GaussianMixture(torch.zeros(L, *points, 1), 0.0)
    assert regression.log_prob(y).shape == points and regression.entropy.shape == points
    assert regression.quantile(0.5).shape == (*points, 1) and regression.crps(y).shape == y.shape
    classes = Categorical.from_logits(torch.zeros(L, *points, N))
    assert classes.log_prob(y[..., 0].long()).shape == points
    assert classes.mutual_information.shape == points


def test_both_kinds_answer_to_the_same_names():
    for predictive in (mixture(), Categorical.from_logits(logits())):
        assert isinstance(predictive, Predictive)
        for name in ("entropy", "expected_entropy", "mutual_information"):
            assert getattr(predictive, name).shape == predictive.batch_shape == (B, Q)
        total = predictive.expected_entropy + predictive.mutual_information
        torch.testing.assert_close(predictive.entropy, total)
        assert len(predictive.functions(2)) == 2 and predictive.draws == L


def test_log_score_is_proper():
    """The mean NLL of data from the mixture is its entropy, and any other mixture scores worse:
    the difference is a KL, here of two single Gaussians."""
    truth, other = mixture(1, 1, 1, 1), GaussianMixture(torch.ones(1, 1, 1, 1).double(), 0.5)
    x = grid(truth)
    p = truth._log_density(x).exp()
    score = -torch.trapezoid(p * other._log_density(x), x[:, 0, 0, 0], dim=0)
    divergence = kl(
        DiagonalGaussian(truth.means, truth.log_variances),
        DiagonalGaussian(other.means, other.log_variances),
    )[0]
    torch.testing.assert_close(score - truth.entropy, divergence)
