"""Rotation, scale and shear against what they must do to a pixel, a line, a blob."""

import math

import pytest
import torch
from torch.nn.functional import interpolate, pad

from mbml.images.warps import warp
from tests.images.small import noise

DIGITS = torch.from_numpy(noise(5, 1, 28, 28))


@pytest.mark.parametrize(
    ("factor", "value"),
    [("rotation", 0), ("rotation", 360), ("rotation", -360), ("shear", 0), ("shear", 360),
     ("scale", 1.0)],
)  # fmt: skip
def test_identities(factor, value):
    for images in (DIGITS, torch.from_numpy(noise(3, 3, 20, 31))):
        assert torch.equal(warp(images, factor, value), images)


@pytest.mark.parametrize("turns", [1, 2, 3, -1])
@pytest.mark.parametrize("size", [27, 28])
def test_quarter_turns(turns, size):
    images = DIGITS[:, :, :size, :size]
    assert torch.equal(warp(images, "rotation", 90 * turns), images.rot90(turns, (2, 3)))


def test_a_shear_by_180_degrees_is_upside_down():
    assert torch.equal(warp(DIGITS, "shear", 180), DIGITS.flip(2))
    assert torch.equal(warp(DIGITS, "shear", -180), DIGITS.flip(2))


def blob(x, y, size=61, width=2.0):
    """A Gaussian at a place measured from the middle, y downwards: `[1, 1, size, size]`."""
    at = torch.arange(size) - (size - 1) / 2
    return torch.exp(-((at - x) ** 2 + (at[:, None] - y) ** 2) / (2 * width**2))[None, None]


def middle(image):
    """The centre of mass (x, y), measured from the middle."""
    at = torch.arange(image.shape[-1]) - (image.shape[-1] - 1) / 2
    mass = image[0, 0] / image.sum()
    return float((mass.sum(0) * at).sum()), float((mass.sum(1) * at).sum())


@pytest.mark.parametrize("degrees", [-160, -60, 20, 45, 140])
def test_where_a_point_goes(degrees):
    a, (x, y) = math.radians(degrees), (9.0, -6.0)
    turned = middle(warp(blob(x, y), "rotation", degrees))
    expected = (x * math.cos(a) + y * math.sin(a), -x * math.sin(a) + y * math.cos(a))
    assert turned == pytest.approx(expected, abs=0.02)
    sheared = middle(warp(blob(x, y), "shear", degrees))
    assert sheared == pytest.approx((x - y * math.sin(a), y * math.cos(a)), abs=0.05)


@pytest.mark.parametrize("degrees", [-40, 20, 60])
def test_a_drawn_line_is_tilted_by_the_angle(degrees):
    """A vertical stroke: turned, and sheared, it stands at the angle and is as long as it was."""
    size = 61
    stroke = torch.zeros(1, 1, size, size)
    stroke[..., 10:51, 29:32] = 1
    a = math.radians(degrees)
    for factor in ("rotation", "shear"):
        moved = warp(stroke, factor, degrees)[0, 0]
        rows, columns = (moved > 0.5).nonzero().double().T - 30
        spread = torch.cov(torch.stack([columns, rows]))
        vector = torch.linalg.eigh(spread)[1][:, 1]  # along the stroke
        # (0, 1) goes to (sin a, cos a) when turned, to (-sin a, cos a) when sheared
        sign = 1 if factor == "rotation" else -1
        expected = torch.tensor([sign * math.sin(a), math.cos(a)], dtype=torch.float64)
        assert float((vector @ expected).abs()) > 0.999
        along = (torch.stack([columns, rows], 1) @ expected).abs().max()
        assert float(along) == pytest.approx(20.5, abs=1.5)


def test_shear_near_90_degrees_is_nearly_flat():
    flat = warp(torch.full((1, 1, 28, 28), 255, dtype=torch.uint8), "shear", 80)
    rows = (flat[0, 0] > 127).any(1).sum()
    assert int(rows) == pytest.approx(28 * math.cos(math.radians(80)), abs=1)


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_scale_is_a_resized_window(factor):
    window = round(28 * factor)
    edge = (28 - window) // 2
    cut = DIGITS[..., edge : 28 - edge, edge : 28 - edge] if edge > 0 else pad(DIGITS, [-edge] * 4)
    assert cut.shape[-1] == window
    expected = interpolate(cut.float(), 28, mode="bilinear", antialias=True)
    moved = warp(DIGITS, "scale", factor)
    assert moved.dtype == torch.uint8
    torch.testing.assert_close(moved.float(), expected, atol=0.51, rtol=0)


@pytest.mark.parametrize("factor", [0.5, 0.6, 0.8, 1.1, 1.4, 1.9])
def test_a_scale_above_one_shrinks(factor):
    """Ink grows with the inverse square, a place moves by the inverse; the middle may lie half a
    pixel of the window beside."""
    image = blob(5.0, 3.0)
    moved = warp(image, "scale", factor)
    window = round(61 * factor)
    assert float(moved.sum() / image.sum()) == pytest.approx((61 / window) ** 2, rel=0.02)
    x, y = middle(moved)
    assert (x, y) == pytest.approx((5 * 61 / window, 3 * 61 / window), abs=0.5 * 61 / window + 0.05)


def test_black_comes_in():
    white = torch.full((1, 1, 28, 28), 255, dtype=torch.uint8)
    for factor, value in (("rotation", 45), ("shear", 40), ("scale", 1.5)):
        moved = warp(white, factor, value)[0, 0]
        assert moved[0, 0] == 0 and moved[14, 14] == 255


@pytest.mark.parametrize(
    ("factor", "value", "words"),
    [
        ("rotate", 10, "no transformation 'rotate'; did you mean 'rotation'"),
        ("shear", 90, "leaves nothing"), ("shear", -90, "leaves nothing"),
        ("scale", 0, "positive"), ("scale", -1, "positive"), ("scale", math.inf, "positive"),
        ("scale", math.nan, "positive"), ("rotation", math.nan, "finite"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(factor, value, words):
    with pytest.raises(ValueError, match=words) as error:
        warp(DIGITS, factor, value)
    assert "\n" not in str(error.value)
