"""Small classification tasks for the tests of this folder."""

import torch

from mbml import Episodes, Examples

WAYS, FEATURES = 3, 4


def tasks(seed: int = 0, *, count: int = 2, shot: int = 2, query: int = 5, ways: int = WAYS,
          extra: int = 0) -> Episodes:
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(count, ways, FEATURES, generator=g)

    def points(each: int) -> Examples:
        y = torch.arange(ways).repeat_interleave(each).expand(count, -1)
        x = centres[torch.arange(count)[:, None], y]
        return Examples(x + 0.5 * torch.randn(x.shape, generator=g), y, ways=ways)

    more = None
    if extra:
        labels = torch.randint(7, (1, extra), generator=g)
        more = Examples(torch.randn(1, extra, FEATURES, generator=g), labels, ways=7)
    return Episodes(points(shot), points(query), extra=more)
