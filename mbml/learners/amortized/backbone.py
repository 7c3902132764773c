r"""What SAMOVAR and TADAM share: a backbone with a task embedding, trained on a second task too.

**TEN** (Oreshkin et al. 2018). The mean of a task's class means, from an unconditioned pass, is
embedded into affine transformations of every layer of a second pass (`mbml.nets.film`). The
post-multipliers are penalised by :math:`\frac{\lambda}{2} (\gamma_0^2 + \beta_0^2)` with
:math:`\lambda` = 0.01, as TADAM's authors do.

**AT**, auxiliary co-training. At step t of T a coin decides, with probability
:math:`\rho = 0.9^{12 t / T}`, to classify a batch of images over all training classes by a linear
layer on the same features instead of training on the episode, so that training begins with the
auxiliary task and ends with episodes (Iakovleva et al. 2020 choose one or the other; TADAM's code
adds the auxiliary step to the other, with the exponent stepped).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from mbml import noise
from mbml.episodes import Episodes, Examples
from mbml.inference.class_means import class_means
from mbml.learners.base import Learner, embed
from mbml.nets.film import TaskEmbedding
from mbml.objectives import Loss

POST_MULTIPLIERS = 0.01  # weight of their penalty
DECAY, DECAYS = 0.9, 12  # of the share of auxiliary steps: by 0.9, twelve times in a training


class CoTrained(Learner):
    """A learner on a backbone that may carry TEN and AT; a method adds `task_loss`.

    Args:
        net: the backbone, any of `mbml.nets`; for TEN one with `net.widths`.
        ten: whether there is a task embedding network.
        auxiliary: whether to co-train on `episodes.extra`.
        classes: how many classes its labels index, those of the training set.

    Raises:
        ValueError: for TEN on a network without layers to modulate, or AT without classes.
    """

    def __init__(
        self, *, net: nn.Module, ten: bool = False, auxiliary: bool = False,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.transductive = getattr(net, "norm", "running") == "transductive"
        if ten and not hasattr(net, "widths"):
            raise ValueError(f"ten=True modulates convolutions, and {type(net).__name__} has none")
        if auxiliary and not classes:
            raise ValueError("auxiliary=True needs classes, the number of all training classes")
        self.ten = TaskEmbedding(net.features, net.widths) if ten else None
        self.head = nn.Linear(net.features, classes) if auxiliary else None

    def task_loss(self, episodes: Episodes) -> Loss:
        """The method's own objective on a batch of tasks."""
        raise NotImplementedError

    def loss(self, episodes: Episodes, progress: float = 0.0) -> Loss:
        # rho = 0.9^(12 t / T)
        if self.head is not None and noise.coin(DECAY ** (DECAYS * progress)):
            return self.auxiliary_loss(episodes.extra)
        loss = self.task_loss(episodes)
        if self.ten is None:
            return loss
        return Loss(loss.total + POST_MULTIPLIERS * self.ten.penalty(), loss.parts)

    def auxiliary_loss(self, extra: Examples | None) -> Loss:
        """Cross-entropy of a linear classifier over all training classes, in nats an image.

        Raises:
            ValueError: if the episodes carry no extra batch, or one over other classes.
        """
        if extra is None or extra.ways != self.head.out_features:
            there = "none" if extra is None else f"one over {extra.ways}"
            raise ValueError(
                f"auxiliary=True needs episodes with an extra batch over {self.head.out_features} "
                f"classes, and there is {there}: EpisodeSampler(..., extra=64)"
            )
        logits = self.head(self.net(extra.x)).flatten(0, 1).float()
        nll = F.cross_entropy(logits, extra.y.flatten())
        return Loss(nll, {"auxiliary": nll.detach()}, whole=True)

    def embed(
        self, support: Examples, query_x: Tensor, *, conditioned_query: bool = True
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Features of support and query points, without and with the task's conditioning.

        Args:
            conditioned_query: False saves the second pass over the query points, whose place an
                empty tensor takes.

        Returns:
            `([B, S, D], [B, Q, D])` twice; without TEN both pairs are the same.
        """
        plain = embed(self.net, support.x, query_x)
        if self.ten is None:
            return plain, plain
        # z = 1/N sum_n c_n
        z = class_means(plain[0], support.y, support.ways).mean(1)
        query_x = query_x if conditioned_query else query_x[:, :0]
        return plain, embed(self.net, support.x, query_x, film=self.ten(z))
