"""The renderer against closed forms: areas, normals, Lambert's law, turns."""

import math

import pytest
import torch

from mbml.images import toys
from mbml.images.render import Solid, about, light, part, render

ZERO = torch.zeros(1)
S40, C40, C30 = math.sin(math.radians(40)), math.cos(math.radians(40)), math.cos(math.radians(30))


def picture(solid, elevation=0.0, azimuth=0.0, lights=None, **settings):
    """One view under one light, `[size, size]`."""
    lights = torch.zeros(1, 3) if lights is None else lights
    at = torch.tensor([float(elevation)]), torch.tensor([float(azimuth)])
    return render(solid, *at, lights, **settings)[0, 0]


def area(shown, half_width=1.0):
    """Of what is seen, every pixel of it being of brightness 1."""
    return float(shown.mean()) * (2 * half_width) ** 2


FLAT = {"size": 128, "rays": 3, "ambient": 1.0}


@pytest.mark.parametrize(("elevation", "azimuth"), [(0, 0), (35, 0), (50, 200)])
def test_a_sphere_is_a_disc_from_everywhere(elevation, azimuth):
    ball = part("ellipsoid", (0.7, 0.7, 0.7), brightness=1)
    shown = picture(ball, elevation, azimuth, **FLAT)
    assert area(shown) == pytest.approx(math.pi * 0.7**2, rel=0.002)
    torch.testing.assert_close(shown, shown.flip(0))
    torch.testing.assert_close(shown, shown.flip(1))


@pytest.mark.parametrize(
    ("shape", "elevation", "azimuth", "expected"),
    [
        # projected areas: |n . camera| times each face's area; a box shows three of its faces
        ("box", 40, 30, 4 * (0.3 * 0.4 * S40 + C40 * (0.4 * 0.5 * C30 + 0.3 * 0.5 * 0.5))),
        # an upright cylinder (elliptic seen along x): its side and its top
        ("cylinder", 0, 0, 4 * 0.4 * 0.5),
        ("cylinder", 90, 0, math.pi * 0.3 * 0.4),
        # an ellipsoid: pi sqrt of the sum of (b c d_x)^2 and so on, d towards the camera
        ("ellipsoid", 40, 0, math.pi * math.hypot(0.4 * 0.5 * C40, 0.3 * 0.4 * S40)),
    ],
)  # fmt: skip
def test_projected_areas(shape, elevation, azimuth, expected):
    solid = part(shape, (0.3, 0.4, 0.5), brightness=1)
    assert area(picture(solid, elevation, azimuth, **FLAT)) == pytest.approx(expected, rel=0.004)


@pytest.mark.parametrize("place", [(0, 0), (60, 20), (-75, 35)])
@pytest.mark.parametrize("elevation", [0, 30])
def test_a_sphere_is_shaded_as_lambert_has_it(place, elevation):
    """At every pixel: the normal of the unit sphere is its point."""
    n = 64
    lamp = light(*place, 0.6)
    shown = picture(part("ellipsoid", (1, 1, 1), brightness=0.9), elevation, 77, lamp[None],
                    size=n, rays=1, ambient=0.2)  # fmt: skip
    grid = (2 * torch.arange(n) + 1) / n - 1
    up, right = torch.meshgrid(-grid, grid, indexing="ij")
    inside = right**2 + up**2 < 0.98
    toward = (1 - right**2 - up**2).clamp_min(0).sqrt()
    # the camera looks down by the elevation: room axes from picture axes
    e = math.radians(elevation)
    normal = torch.stack([
        toward * math.cos(e) - up * math.sin(e), right, toward * math.sin(e) + up * math.cos(e)
    ], -1)  # fmt: skip
    expected = 0.9 * (0.2 + (normal @ lamp).clamp_min(0))
    torch.testing.assert_close(shown[inside], expected[inside], atol=2e-4, rtol=0)
    assert (shown[right**2 + up**2 > 1] == 0).all()


def test_light_comes_from_its_side():
    ball = part("ellipsoid", (1, 1, 1))
    right = picture(ball, lights=light(80, 0)[None], ambient=0)
    left = picture(ball, lights=light(-80, 0)[None], ambient=0)
    assert right[:, 16:].sum() > 5 * right[:, :16].sum()
    torch.testing.assert_close(left, right.flip(1), atol=1e-5, rtol=0)


def test_faces_of_a_box_have_one_shade_each():
    lamp = light(30, 40, 0.5)
    shown = picture(part("box", (0.5, 0.5, 0.5), brightness=1.0), 30, 0, lamp[None],
                    size=32, rays=1, ambient=0.1)  # fmt: skip
    found = sorted(set(shown[shown > 0].mul(1e5).round().tolist()))
    expected = sorted(float(0.1 + lamp[axis]) for axis in (0, 2))  # its front and its top
    assert [f / 1e5 for f in found] == pytest.approx(expected, abs=1e-4)


def test_what_is_nearer_hides_what_is_further():
    near = part("box", (0.1, 0.3, 0.3), (0.5, 0, 0), brightness=0.4)
    far = part("box", (0.1, 0.6, 0.6), (-0.5, 0, 0), brightness=0.8)
    front, back = (picture(near + far, 0, turn, **FLAT) for turn in (0, 180))
    assert front[64, 64] == pytest.approx(0.4) and front[64, 100] == pytest.approx(0.8)
    assert back[64, 64] == pytest.approx(0.8)
    torch.testing.assert_close(front, picture(far + near, 0, 0, **FLAT))


def alike(one, other):
    """But for single rays that run along an edge, where rounding decides."""
    return (one - other).abs().gt(1e-3).float().mean() < 0.01


@pytest.mark.parametrize("name", toys.CLASSES)
def test_an_azimuth_is_a_turn_of_the_toy(name):
    toy, lamp = toys.toy(name, 0), light(-40, 30)[None]
    for degrees in (0, 60, 110):
        turned = picture(toy.turned(degrees), 40, 30, lamp)
        assert alike(picture(toy, 40, 30 + degrees, lamp), turned)
        assert (picture(toy, 40, 30, lamp) - turned).abs().max() > 0.2 or degrees == 0
    assert alike(picture(toy, 40, 360, lamp), picture(toy, 40, 0, lamp))


def test_a_turn_is_counter_clockwise_from_above():
    nose = part("box", (0.2, 0.1, 0.1), (0.5, 0, 0), brightness=1)  # towards the camera
    shown = picture(nose, 90, 90, size=32, ambient=1.0)  # from above: up is away from the camera
    row, column = (shown > 0.5).nonzero().float().mean(0).tolist()
    assert row == pytest.approx(15.5, abs=0.1) and column == pytest.approx(15.5 + 0.5 * 16, abs=0.1)


def test_many_views_and_lights_are_those_one_by_one():
    toy, lamps = toys.toy("car", 2), toys.lamps()
    elevation, azimuth = torch.tensor([30.0, 70.0, 45.0]), torch.tensor([0.0, 120.0, 340.0])
    together = render(toy, elevation, azimuth, lamps)
    assert together.shape == (3, 6, 32, 32) and 0 <= together.min() <= together.max() <= 1
    assert torch.equal(together, render(toy, elevation, azimuth, lamps))
    for v in range(3):
        for k in range(6):
            alone = picture(toy, elevation[v], azimuth[v], lamps[k : k + 1])
            torch.testing.assert_close(alone, together[v, k])
    assert render(toy, elevation[:0], azimuth[:0], lamps).shape == (0, 6, 32, 32)


def test_fitted_fills_the_unit_sphere():
    for name in toys.CLASSES:
        toy = toys.toy(name, 1)
        signs = torch.cartesian_prod(*3 * [torch.tensor([-1.0, 1.0])])
        corners = (toy.centre[:, None] + signs @ toy.frame.mT).flatten(0, 1)
        assert float(corners.norm(dim=1).max()) == pytest.approx(1, abs=1e-5)
        # nothing of it is cut off: a wider picture shows no more of it
        views = torch.tensor([30.0, 70.0]), torch.tensor([40.0, 200.0])
        close, wide = (render(toy, *views, torch.zeros(1, 3), ambient=1, size=n, half_width=n / 64)
                       for n in (64, 96))  # fmt: skip
        assert alike(close, wide[..., 16:80, 16:80])
        assert wide[..., :16, :].max() == 0 == wide[..., :16].max()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: part("cone", (1, 1, 1)), "no shape 'cone'.*box, cylinder, ellipsoid"),
        (lambda: part("box", (1, 0, 1)), "all positive"),
        (lambda: render(part("box", (1, 1, 1)), ZERO, torch.zeros(2), torch.zeros(1, 3)), "shapes"),
        (lambda: render(part("box", (1, 1, 1)), ZERO, ZERO, torch.zeros(3)), "shapes"),
        (lambda: render(part("box", (1, 1, 1)), ZERO, ZERO, torch.zeros(1, 3), size=0), "size=0"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(wrong, words):
    with pytest.raises(ValueError, match=words) as error:
        wrong()
    assert "\n" not in str(error.value)


def test_rotations():
    for axis, fixed in zip("xyz", torch.eye(3)):
        turn = about(axis, torch.tensor([90.0, 37.0]))
        torch.testing.assert_close(turn @ fixed, fixed.expand(2, 3))
        torch.testing.assert_close(turn @ turn.mT, torch.eye(3).expand(2, 3, 3))
    z = about("z", torch.tensor(90.0)) @ torch.tensor([1.0, 0, 0])
    torch.testing.assert_close(z, torch.tensor([0.0, 1, 0]), atol=1e-6, rtol=0)
    assert isinstance(part("box", (1, 1, 1)) + part("box", (1, 2, 1)), Solid)
