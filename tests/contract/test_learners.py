"""What every learner promises, tested on every registered one.

A new method adds one line to `SMALL`: how to build a small instance of it, and on which tasks. What
a learner declares (`order_invariant`, `label_equivariant`, `transductive`) is tested; what it does
not declare is shown broken on the example.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mbml import Episodes, Examples, learners, nets, noise
from mbml.learners import GenerativeLearner, Learner
from mbml.learners.amortized.anp import ANP
from mbml.learners.amortized.cnp import CNP
from mbml.learners.amortized.np import NP
from mbml.learners.amortized.samovar import Samovar
from mbml.learners.amortized.tadam import Tadam
from mbml.learners.amortized.versa import Versa
from mbml.learners.bayes.abml import Abml
from mbml.learners.bayes.bmaml import Bmaml
from mbml.learners.bayes.emaml import Emaml
from mbml.learners.bayes.llama import Llama
from mbml.learners.bayes.platipus import Platipus
from mbml.learners.gradient.alpha_maml import AlphaMaml
from mbml.learners.gradient.cavia import Cavia
from mbml.learners.gradient.imaml import Imaml
from mbml.learners.gradient.maml import Fomaml, Maml
from mbml.learners.gradient.maml_plus_plus import MamlPlusPlus
from mbml.learners.gradient.meta_sgd import MetaSgd
from mbml.learners.gradient.reptile import Reptile
from mbml.learners.metric.prototypical import Prototypical
from mbml.nets.class_wise import ClassAttention, ClassDecoder, ClassEncoder, ClassLatentEncoder
from mbml.objectives import Loss

N, D = 3, 4
R = 6  # features of what neural processes keep of a class


def classification(seed: int = 0, tasks: int = 2, support=(1, 3, 2), queries: int = 5) -> Episodes:
    """Tasks of vectors whose classes have different counts."""
    g = torch.Generator().manual_seed(seed)
    y = torch.repeat_interleave(torch.arange(N), torch.tensor(support)).expand(tasks, -1)
    query_y = torch.randint(0, N, (tasks, queries), generator=g)
    centres = torch.randn(tasks, N, D, generator=g)

    def points(labels: Tensor) -> Examples:
        x = torch.stack([c[label] for c, label in zip(centres, labels, strict=True)])
        return Examples(x + torch.randn(x.shape, generator=g), labels, ways=N)

    return Episodes(points(y), points(query_y))


def images(seed: int = 0, **settings) -> Episodes:
    """The same tasks as 8x8 images, for learners whose batch-norm mode is to be seen."""
    tasks = classification(seed, **settings)

    def draw(e: Examples) -> Examples:
        x = e.x.repeat_interleave(4, dim=-1).repeat_interleave(4, dim=-1)
        return Examples(x.view(*e.x.shape[:2], 1, 8, 8), e.y, e.ways)

    return Episodes(draw(tasks.support), draw(tasks.query))


def conv(norm: str) -> nets.Conv4:
    return nets.Conv4(in_channels=1, image_size=8, channels=4, norm=norm)


def conditioned(kind: type[Learner], **settings) -> Learner:
    """With a task embedding that already does something: its multipliers start at 0."""
    learner = kind(net=conv("running"), ten=True, **settings)
    for name, parameter in learner.named_parameters():
        if name.endswith("multiplier"):
            torch.nn.init.constant_(parameter, 0.5)
    return learner


def cnp(net: nets.MLP | nets.Conv4 | None = None) -> CNP:
    X = net.features if net else D
    return CNP(net=net, encoder=ClassEncoder(X, [8], R), decoder=ClassDecoder(R, X, [8]))


def np(net: nets.MLP | nets.Conv4 | None = None) -> NP:
    X = net.features if net else D
    latent = ClassLatentEncoder(X, [8, 8], R)
    return NP(net=net, latent=latent, decoder=ClassDecoder(R, X, [8]), draws=2)


def anp() -> ANP:
    return ANP(
        net=nets.MLP(D, [8], 5),
        latent=ClassLatentEncoder(5, [8], R),
        attention=ClassAttention(5, [8], 4, heads=2),
        decoder=ClassDecoder(R + 4, 5, [8]),
    )


# of one constructor: they adapt all weights of the network
GRADIENT = {
    "maml": Maml, "fomaml": Fomaml, "meta-sgd": MetaSgd, "alpha-maml": AlphaMaml,
    "maml++": MamlPlusPlus, "reptile": Reptile, "imaml": Imaml,
}

SMALL: dict[str, tuple[Callable[[], Learner], Callable[..., Episodes]]] = {
    **{
        name: (lambda kind=kind: kind(net=nets.MLP(D, [8], 6), ways=N, rate=0.1), classification)
        for name, kind in GRADIENT.items()
    },
    **{
        f"{name}, {norm}": (
            lambda kind=kind, norm=norm: kind(net=conv(norm), ways=N, rate=0.1, steps=2), images
        )
        for name, kind in (GRADIENT | {"cavia": Cavia}).items()
        for norm in ("transductive", "support")
    },
    "cavia": (
        lambda: Cavia(net=nets.MLP(D + 3, [8], 6), ways=N, context=3, rate=0.1), classification
    ),
    **{
        name: (lambda kind=kind: kind(net=nets.MLP(D, [8], 6), ways=N, rate=0.1), classification)
        for name, kind in {"abml": Abml, "platipus": Platipus, "llama": Llama}.items()
    },
    **{
        f"{name}, {norm}": (
            lambda kind=kind, norm=norm: kind(net=conv(norm), ways=N, rate=0.1, test_draws=0),
            images,
        )
        for name, kind in {"abml": Abml, "platipus": Platipus, "llama": Llama}.items()
        for norm in ("transductive", "support")
    },
    **{
        f"llama, {kind}": (
            lambda kind=kind, draws=draws: Llama(
                net=nets.MLP(D, [8], 6), ways=N, rate=0.1, curvature=kind, test_draws=draws
            ),
            classification,
        )
        for kind, draws in (("last", 100), ("kronecker", 0))
    },
    **{
        f"{name}{', last layer' if last else ''}": (
            lambda kind=kind, last=last: kind(
                net=nets.MLP(D, [8], 6), ways=N, rate=0.1, particles=3, last_layer=last
            ),
            classification,
        )
        for name, kind in {"emaml": Emaml, "bmaml": Bmaml}.items()
        for last in (False, True)
    },
    **{
        f"{name}, {norm}{', last layer' if last else ''}": (
            lambda kind=kind, norm=norm, last=last: kind(
                net=conv(norm), ways=N, rate=0.1, particles=2, last_layer=last
            ),
            images,
        )
        for name, kind in {"emaml": Emaml, "bmaml": Bmaml}.items()
        for norm, last in (("transductive", False), ("support", False), ("support", True))
    },
    "prototypical": (lambda: Prototypical(net=nets.MLP(D, [8], 6)), classification),
    "prototypical, cosine": (
        lambda: Prototypical(net=nets.MLP(D, [8], 6), distance="cosine"),
        classification,
    ),
    **{
        f"prototypical, {norm}": (lambda norm=norm: Prototypical(net=conv(norm)), images)
        for norm in nets.MODES
    },
    "versa": (lambda: Versa(net=nets.MLP(D, [8], 6), draws=3), classification),
    "versa, mean": (lambda: Versa(net=nets.MLP(D, [8], 6), draws=0), classification),
    "versa, ten": (lambda: conditioned(Versa, test_draws=0), images),
    "samovar": (lambda: Samovar(net=nets.MLP(D, [8], 6), draws=3), classification),
    "samovar, cosine": (
        lambda: Samovar(net=nets.MLP(D, [8], 6), scale=4.0, draws=2, log_variance=-3),
        classification,
    ),
    "samovar, separate": (
        lambda: Samovar(net=nets.MLP(D, [8], 6), separate=True, test_draws=0),
        classification,
    ),
    "samovar, mean": (
        lambda: Samovar(net=nets.MLP(D, [8], 6), separate=True, draws=0),
        classification,
    ),
    "samovar, ten": (lambda: conditioned(Samovar, scale=4.0, test_draws=0), images),
    "tadam": (lambda: Tadam(net=nets.MLP(D, [8], 6), scale=2.0), classification),
    "tadam, ten": (lambda: conditioned(Tadam), images),
    "cnp": (lambda: cnp(nets.MLP(D, [8], 5)), classification),
    "cnp, no backbone": (cnp, classification),
    "cnp, transductive": (lambda: cnp(conv("transductive")), images),
    "np": (lambda: np(nets.MLP(D, [8], 5)), classification),
    "np, transductive": (lambda: np(conv("transductive")), images),
    "anp": (anp, classification),
}


@pytest.fixture(params=SMALL)
def name(request) -> str:
    return request.param


@pytest.fixture
def case(name) -> tuple[Learner, Callable[..., Episodes]]:
    torch.manual_seed(0)
    build, tasks = SMALL[name]
    return build(), tasks


def probabilities(learner: Learner, episodes: Episodes) -> Tensor:
    """Class probabilities `[B, Q, N]`, with the same noise at every call."""
    torch.manual_seed(7)
    with torch.no_grad():
        return learner.predict(episodes.support, episodes.query.x).probs


def expected(learner: Learner, episodes: Episodes) -> tuple[Tensor, float]:
    """Class probabilities with so many draws that whose noise it was does not matter any more, and
    how far off they may be: nothing to speak of for a learner that draws nothing."""
    draws_something = learner.predict(episodes.support, episodes.query.x).draws > 1
    torch.manual_seed(7)
    with torch.no_grad():
        many = 20_000 if draws_something else None
        predictive = learner.predict(episodes.support, episodes.query.x, draws=many)
    return predictive.probs, 0.025 if draws_something else 1e-5


def shuffled(e: Examples, order: Tensor) -> Examples:
    return Examples(e.x[:, order], e.y[:, order], e.ways)


def test_every_registered_classifier_is_here():
    from tests.contract import test_regressors  # imports, and so registers, what stands there

    names = {name.split(",")[0] for name in SMALL}
    regressors = {name.split(",")[0] for name in test_regressors.SMALL}
    registered = {
        name for name, c in learners.methods().items() if not issubclass(c, GenerativeLearner)
    }
    assert names | regressors == registered


def test_probabilities_of_every_query_point(case):
    learner, tasks = case
    predictive = learner.eval().predict(tasks().support, tasks().query.x)
    assert tuple(predictive.batch_shape) == (2, 5)
    assert predictive.probs.shape == (2, 5, N)
    torch.testing.assert_close(predictive.probs.sum(-1), torch.ones(2, 5))


def test_no_query_point_is_a_task_too(case):
    learner, tasks = case
    support = tasks().support
    predictive = learner.eval().predict(support, tasks().query.x[:, :0])
    assert tuple(predictive.batch_shape) == (2, 0)


def test_gradients_reach_every_parameter_that_learns_and_only_those(case):
    learner, tasks = case
    episodes = tasks()
    learner.train().loss(episodes, progress=0.5).total.backward()
    for name, parameter in learner.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None, f"a gradient reaches {name}, which is fixed"
            continue
        assert parameter.grad is not None, f"no gradient reaches {name}"
        assert torch.isfinite(parameter.grad).all(), f"{name}: a gradient that is not finite"
        # A bias of the last layer may cancel between query and prototype: exactly zero is allowed
        # for it alone.
        assert parameter.grad.abs().max() > 0 or name.endswith("bias"), f"{name}: zero gradient"
    assert not episodes.support.x.requires_grad


def test_loss_is_a_mean_over_tasks(case):
    learner, tasks = case
    learner.train()
    episodes = tasks()

    def loss(first: int, end: int) -> Loss:
        place = {"device": torch.device("cpu"), "total": 2}
        with noise.of_tasks(3, first=first, present=end - first, **place):
            return learner.loss(episodes[first:end])

    together, alone = loss(0, 2), [loss(0, 1), loss(1, 2)]
    torch.testing.assert_close(together.total, torch.stack([a.total for a in alone]).mean())
    for name, value in together.parts.items():
        torch.testing.assert_close(value, torch.stack([a.parts[name] for a in alone]).mean())


def test_a_batch_of_tasks_equals_the_tasks_one_by_one(case):
    learner, tasks = case
    learner.eval()
    episodes = tasks()
    together, tolerance = expected(learner, episodes)
    alone = torch.cat([expected(learner, episodes[i : i + 1])[0] for i in range(2)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=tolerance)


def test_saved_and_loaded_it_predicts_the_same(name, case, tmp_path):
    learner, tasks = case
    learner.train().loss(tasks(seed=1))  # moves running statistics away from their start
    torch.save(learner.state_dict(), tmp_path / "weights.pt")
    torch.manual_seed(99)
    other = SMALL[name][0]()
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    expected = probabilities(learner.eval(), tasks())
    assert torch.equal(probabilities(other.eval(), tasks()), expected)


def test_order_of_the_support_set(case):
    learner, tasks = case
    learner.eval()
    episodes = tasks()
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    other = Episodes(shuffled(episodes.support, order), episodes.query)
    same = torch.allclose(
        probabilities(learner, episodes), probabilities(learner, other), rtol=1e-4, atol=1e-5
    )
    assert same == learner.order_invariant


def test_names_of_the_classes(case):
    learner, tasks = case
    learner.eval()
    episodes = tasks()
    relabel = torch.tensor([2, 0, 1])
    support = Examples(episodes.support.x, relabel[episodes.support.y], N)
    relabelled, tolerance = expected(learner, Episodes(support, episodes.query))
    same = torch.allclose(
        relabelled[..., relabel], expected(learner, episodes)[0], rtol=1e-4, atol=tolerance
    )
    assert same == learner.label_equivariant


def test_whether_query_points_see_each_other(case):
    learner, tasks = case
    learner.eval()
    episodes = tasks()
    alone = Episodes(episodes.support, Examples(episodes.query.x[:, :1]))
    independent = torch.allclose(
        probabilities(learner, episodes)[:, :1], probabilities(learner, alone), rtol=1e-4, atol=1e-5
    )
    assert independent == (not learner.transductive)


def test_a_class_without_support_is_one_clear_error_or_known_from_other_tasks(case):
    learner, tasks = case
    episodes = tasks(support=(3, 0, 3))
    if not learner.every_class:
        probs = learner.eval().predict(episodes.support, episodes.query.x).probs
        torch.testing.assert_close(probs.sum(-1), torch.ones(probs.shape[:-1]))
        assert bool((probs[..., 1] > 0).all())
        return
    with pytest.raises(ValueError, match="class 1 of task 0"):
        learner.predict(episodes.support, episodes.query.x)


def unlooked(support: Examples, **changes) -> Examples:
    """Labels as they may lie on a GPU, at which nobody looks when `Examples` are made."""
    made = replace(support)
    for name, value in changes.items():
        object.__setattr__(made, name, value)
    return made


def one_entry(x: Tensor, value: float) -> Tensor:
    x = x.clone()
    x[1, 2, ..., 0] = value
    return x


BAD_SUPPORT: dict[str, tuple[Callable[[Examples], Examples], str]] = {
    "nan": (lambda s: replace(s, x=one_entry(s.x, math.nan)), "finite among the support points"),
    "inf": (lambda s: replace(s, x=one_entry(s.x, math.inf)), "finite among the support points"),
    "no labels": (lambda s: Examples(s.x), "the support set has no targets"),
    "one class": (lambda s: Examples(s.x, 0 * s.y, 1), "at least two classes, not ways=1"),
    "ways unsaid": (lambda s: Examples(s.x, s.y), "at least two classes, not ways=None"),
    "many ways": (lambda s: Examples(s.x, s.y, 10**9), "1000000000 classes with 6 labelled points"),
    "out of range": (
        lambda s: unlooked(s, y=s.y + 1), "labels of 3 classes lie in 0..2, and these in 1..3",
    ),
    "negative": (
        lambda s: unlooked(s, y=s.y - 1), "labels of 3 classes lie in 0..2, and these in -1..1",
    ),
    "numbers": (lambda s: unlooked(s, y=s.y.float()), "labels are int64 .* not torch.float32"),
    "elsewhere": (lambda s: s.to("meta"), "not all on one device: the support set on meta"),
    "labels elsewhere": (lambda s: replace(s, y=s.y.to("meta")), "the targets on meta"),
    "fewer tasks": (lambda s: s[:1], "must agree in the tasks"),
    "other points": (lambda s: replace(s, x=s.x[..., :-1]), "in the shape of a point"),
}


@pytest.mark.parametrize("bad", BAD_SUPPORT)
def test_a_bad_support_set_is_one_clear_error(case, bad):
    learner, tasks = case
    spoil, complaint = BAD_SUPPORT[bad]
    episodes = tasks()
    with pytest.raises(ValueError, match=complaint) as error:
        learner.eval().predict(spoil(episodes.support), episodes.query.x)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("spoil, complaint", [
    (lambda x: one_entry(x, math.nan), "not finite among the query points"),
    (lambda x: x.to("meta"), "the query set on meta"),
    (lambda x: x[:, :, None], "in the shape of a point"),
])
def test_bad_query_points_are_one_clear_error(case, spoil, complaint):
    learner, tasks = case
    with pytest.raises(ValueError, match=complaint) as error:
        learner.eval().predict(tasks().support, spoil(tasks().query.x))
    assert "\n" not in str(error.value)


def test_a_learner_elsewhere_is_one_clear_error(case):
    learner, tasks = case
    with pytest.raises(ValueError, match="the learner on meta"):
        learner.to("meta").predict(tasks().support, tasks().query.x)


def test_a_weight_that_is_not_a_number_is_one_clear_error(case):
    learner, tasks = case
    next(learner.parameters()).data.fill_(math.nan)
    with pytest.raises(ValueError, match="the prediction is not finite"):
        learner.eval().predict(tasks().support, tasks().query.x)


def test_a_number_of_draws_that_is_none(name, case):
    learner, tasks = case
    if name.split(",")[0] not in {"versa", "samovar", "np", "anp", "abml", "platipus", "llama"}:
        return  # deterministic, whatever is asked for
    for draws in (-1, 1.5):
        with pytest.raises(ValueError, match=f"draws={draws} must be a whole number"):
            learner.predict(tasks().support, tasks().query.x, draws=draws)
