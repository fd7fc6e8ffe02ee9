"""Moving the points of images: places, maps, what is read there, and derivatives of second order."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.func import vmap

from metagen.core.warps import DRAWS, affine_maps, moved, pixel_grid, random_affine, read_at

STILL = 0.5  # the draw that changes nothing
TURN, WIDE, HIGH, SHEAR, RIGHT, DOWN = range(DRAWS)


def draws_with(**changes: float) -> torch.Tensor:
    """Draws that change nothing but what is named."""
    draws = torch.full((1, DRAWS), STILL, dtype=torch.float64)
    for name, value in changes.items():
        draws[0, globals()[name]] = value
    return draws


def uniform(*shape: int, seed: int = 0, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(*shape, dtype=torch.float64, generator=rng)


def smooth(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """A picture that is known everywhere: two soft blobs at places in [-1, 1]."""
    first, second = (x - 0.2) ** 2 + (y + 0.1) ** 2, (x + 0.3) ** 2 + (y - 0.3) ** 2
    return 0.8 * (-first / 0.1).exp() + 0.4 * (-second / 0.08).exp()


# places and reading


def test_places_are_the_centres_of_the_pixels_from_left_to_right_and_down():
    grid = pixel_grid(4, torch.zeros(1, dtype=torch.float64))
    centres = [-0.75, -0.25, 0.25, 0.75]
    assert grid.dtype == torch.float64
    assert grid[2, :, 0].tolist() == centres
    assert grid[:, 1, 1].tolist() == centres


@pytest.mark.parametrize(("size", "channels"), [(5, 1), (28, 3)])
def test_an_image_read_at_its_own_pixels_is_itself(size, channels):
    images = uniform(3, channels, size, size)
    read = read_at(images, pixel_grid(size, images).expand(3, -1, -1, -1))
    torch.testing.assert_close(read, images, rtol=0, atol=1e-12)


def test_any_places_may_be_read_and_outside_is_paper():
    """The median of the rim, whatever the polarity: a line that touches the rim does not go on."""
    images = uniform(2, 3, 6, 6)
    places = torch.tensor([[[-5.0, -5.0], [5.0, -5.0], [-5.0, 5.0], [5.0, 5.0], [1 / 6, -0.5]]], dtype=torch.float64)
    read = read_at(images, places.expand(2, 1, 5, 2))
    assert read.shape == (2, 3, 1, 5)
    torch.testing.assert_close(read[:, :, 0, -1], images[:, :, 1, 3], rtol=0, atol=1e-12)
    rims = torch.cat([images[..., 0, :], images[..., -1, :], images[..., :, 0], images[..., :, -1]], -1)
    paper = rims.sort(-1).values[..., 11]  # the lower of the two in the middle
    torch.testing.assert_close(read[:, :, 0, :-1], paper[..., None].expand(2, 3, 4), rtol=0, atol=1e-12)
    line = torch.zeros(1, 1, 28, 28)
    line[..., 14, :] = 1
    for ink, ground in ((line, 0.0), (1 - line, 1.0)):
        moved_far = read_at(ink, pixel_grid(28, ink)[None] + torch.tensor([1.0, 0.0]))
        assert (moved_far[..., 20:] == ground).all()


def grid_sample(images, places):
    return F.grid_sample(images, places, mode="bicubic", padding_mode="zeros", align_corners=False)


def rimless(size, channels, dtype=torch.float32, seed=0):
    """Images with nothing on the rim, so that paper is 0."""
    images = torch.zeros(3, channels, *size, dtype=dtype)
    images[..., 1:-1, 1:-1] = uniform(3, channels, size[0] - 2, size[1] - 2, seed=seed)
    return images


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (5, 7), (64, 64), (3, 3)])
@pytest.mark.parametrize("reach", [0.5, 1.2, 8.0])
def test_it_reads_what_grid_sample_reads_inside_on_the_edges_and_beyond(dtype, near, size, reach):
    images = rimless(size, 3, dtype)
    places = uniform(3, 9, 11, 2, low=-reach, high=reach, seed=1).to(dtype)
    torch.testing.assert_close(read_at(images, places), grid_sample(images, places), rtol=0, atol=near)


def test_places_on_pixels_on_edges_and_very_far_are_read_as_grid_sample_reads_them():
    images = rimless((6, 6), 1)
    each = torch.tensor([-1e30, -5.0, -7 / 6, -1.0, -5 / 6, 0.0, 1 / 6, 5 / 6, 1.0, 7 / 6, 9 / 6, 5.0, 1e30])
    places = torch.stack(torch.meshgrid(each, each, indexing="xy"), -1).expand(3, -1, -1, -1)
    near = places.clamp(-9, 9)  # at 1e30 grid_sample itself is not defined
    torch.testing.assert_close(read_at(images, places), grid_sample(images, near), rtol=0, atol=1e-6)


def test_slopes_are_those_of_grid_sample():
    images = rimless((8, 8), 2, torch.float64).requires_grad_()
    places = uniform(3, 5, 5, 2, low=-1.3, high=1.3, seed=2).requires_grad_()
    ours = torch.autograd.grad(read_at(images, places).square().sum(), (images, places))
    theirs = torch.autograd.grad(grid_sample(images, places).square().sum(), (images, places))
    inside = (..., slice(1, -1), slice(1, -1))  # the rim's slopes are those of paper, too
    torch.testing.assert_close(ours[0][inside], theirs[0][inside])
    torch.testing.assert_close(ours[1], theirs[1])


def test_between_pixels_it_reads_a_smooth_picture_closely():
    x, y = pixel_grid(48, uniform(1)).unbind(-1)
    places = uniform(1, 10, 20, 2, low=-0.9, high=0.9)
    read = read_at(smooth(x, y)[None, None], places)[0, 0]  # torch's cubic is off by up to 0.05 pixels on a slope
    torch.testing.assert_close(
        read, smooth(*places[0].unbind(-1)), rtol=0, atol=8e-3
    )  # its cubic is off by some 0.05 pixels on a slope


# maps


@pytest.mark.parametrize("strength", [0.5, 1.0, 1.5])
def test_draws_in_the_middle_change_nothing(strength):
    maps = affine_maps(torch.full((2, DRAWS), STILL), strength)
    assert torch.equal(maps, torch.eye(2, 3).expand(2, 2, 3))
    images = uniform(2, 1, 9, 9)
    torch.testing.assert_close(random_affine(images, torch.full((2, DRAWS), STILL, dtype=torch.float64)), images)


def test_strength_zero_changes_nothing():
    torch.testing.assert_close(affine_maps(uniform(4, DRAWS), 0.0), torch.eye(2, 3).double().expand(4, 2, 3))


def test_strength_is_how_far_the_draws_are_from_the_middle():
    draws = uniform(5, DRAWS)
    torch.testing.assert_close(affine_maps(draws, 0.5), affine_maps(STILL + 0.5 * (draws - STILL)))


@pytest.mark.parametrize("sign", [-1, 1])
def test_at_strength_one_each_move_goes_as_far_as_is_said(sign):
    """15 degrees, 15 %, 10 degrees, 8 % of the image; places run over 2 from edge to edge."""
    end = STILL + sign / 2
    cos, sin = math.cos(math.radians(15)), sign * math.sin(math.radians(15))
    slant, part, shift = sign * math.tan(math.radians(10)), 1 + sign * 0.15, sign * 0.16
    expected = {
        "TURN": [[cos, -sin, 0], [sin, cos, 0]],
        "WIDE": [[part, 0, 0], [0, 1, 0]],
        "HIGH": [[1, 0, 0], [0, part, 0]],
        "SHEAR": [[1, slant, 0], [0, 1, 0]],
        "RIGHT": [[1, 0, shift], [0, 1, 0]],
        "DOWN": [[1, 0, 0], [0, 1, shift]],
    }
    for name, rows in expected.items():
        found = affine_maps(draws_with(**{name: end}))[0]
        torch.testing.assert_close(found, torch.tensor(rows, dtype=torch.float64), msg=name)


def test_a_map_is_a_scaling_then_a_shear_then_a_turn_then_a_shift():
    draws = uniform(20, DRAWS, seed=1)
    for draw, found in zip(2 * draws - 1, affine_maps(draws), strict=True):
        angle = math.radians(15) * float(draw[TURN])
        turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]).double()
        shear = torch.tensor([[1, math.tan(math.radians(10)) * float(draw[SHEAR])], [0, 1]]).double()
        scale = torch.diag(1 + 0.15 * draw[[WIDE, HIGH]])
        torch.testing.assert_close(found[:, :2], turn @ shear @ scale, rtol=0, atol=1e-7)
        torch.testing.assert_close(found[:, 2], 0.16 * draw[[RIGHT, DOWN]])


def test_places_are_moved_by_the_map_of_their_own_image():
    grid, maps = pixel_grid(4, uniform(1)), uniform(3, 2, 3, low=-1)
    found = moved(grid, maps)
    for n, y, x in ((0, 0, 3), (1, 2, 1), (2, 3, 0)):
        torch.testing.assert_close(found[n, y, x], maps[n, :, :2] @ grid[y, x] + maps[n, :, 2])
    own = uniform(3, 4, 4, 2, low=-1)
    torch.testing.assert_close(moved(own, maps)[1], moved(own[1], maps[1:2])[0])


# random affine images


@pytest.mark.parametrize(("name", "axis"), [("RIGHT", 3), ("DOWN", 2)])
@pytest.mark.parametrize("pixels", [-2, 1])
def test_a_shift_by_whole_pixels_is_a_rolled_image(name, axis, pixels):
    images = uniform(1, 1, 25, 25)  # 8 % of 25 pixels are 2
    found = random_affine(images, draws_with(**{name: STILL + pixels / 4}))
    inside = (..., slice(3, -3), slice(3, -3))
    torch.testing.assert_close(found[inside], images.roll(-pixels, axis)[inside], rtol=0, atol=1e-9)
    assert not torch.allclose(found, images, atol=1e-3)


def test_a_turn_turns_the_picture():
    x, y = pixel_grid(48, uniform(1)).unbind(-1)
    found = random_affine(smooth(x, y)[None, None], draws_with(TURN=1.0))[0, 0]
    cos, sin = math.cos(math.radians(15)), math.sin(math.radians(15))
    expected = smooth(cos * x - sin * y, sin * x + cos * y)
    inside = (x**2 + y**2) < 0.8
    torch.testing.assert_close(found[inside], expected[inside], rtol=0, atol=8e-3)
    assert (found - smooth(x, y)).abs().max() > 0.1


def test_images_stay_within_black_and_white_and_keep_their_type():
    images = (uniform(8, 3, 28, 28) > 0.5).float()  # cubic reading overshoots at such edges
    found = random_affine(images, uniform(8, DRAWS).float(), 1.5)
    assert found.dtype == torch.float32
    assert found.shape == images.shape
    assert 0 <= found.min() <= found.max() <= 1


def test_each_image_has_its_own_draws():
    images = uniform(4, 1, 12, 12)
    draws = uniform(4, DRAWS, seed=2)
    found = random_affine(images, draws, 1.2)
    for i in range(4):
        torch.testing.assert_close(found[i : i + 1], random_affine(images[i : i + 1], draws[i : i + 1], 1.2))
    assert not torch.allclose(found, random_affine(images, draws.roll(1, 0), 1.2))


# derivatives


def test_second_derivatives_of_a_random_affine_image_are_right():
    images = uniform(2, 1, 5, 5, low=0.3, high=0.7).requires_grad_()  # away from the clamp
    draws = uniform(2, DRAWS, seed=3)

    def curved(x: torch.Tensor) -> torch.Tensor:
        return random_affine(x, draws).square()  # linear in x by itself, so that its second derivative would be 0

    assert torch.autograd.gradcheck(curved, (images,))
    assert torch.autograd.gradgradcheck(curved, (images,))


def test_second_derivatives_of_reading_are_right_in_images_and_places():
    images = uniform(2, 2, 5, 5).requires_grad_()
    places = uniform(2, 2, 3, 2, low=-1.1, high=1.1, seed=4).requires_grad_()
    assert torch.autograd.gradcheck(read_at, (images, places))
    assert torch.autograd.gradgradcheck(read_at, (images, places))
    (slope,) = torch.autograd.grad(read_at(images, places).sum(), places, create_graph=True)
    (bend,) = torch.autograd.grad(slope.square().sum(), places)
    assert bend.abs().max() > 1e-3  # cubic between pixels: linear reading would have none along one axis


def test_vmap_over_tasks_is_a_loop():
    images, draws = uniform(3, 2, 1, 8, 8), uniform(3, 2, DRAWS, seed=5)
    together = vmap(random_affine)(images, draws)
    for i in range(3):
        torch.testing.assert_close(together[i], random_affine(images[i], draws[i]))


def test_vmap_over_tasks_is_a_loop_for_gradients_in_places():
    images, places = uniform(3, 2, 1, 8, 8), uniform(3, 2, 4, 4, 2, low=-1, seed=6)

    def energy(x: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        return read_at(x, at).square().sum()

    slopes = torch.func.grad(energy, argnums=1)
    together = vmap(slopes)(images, places)
    for i in range(3):
        torch.testing.assert_close(together[i], slopes(images[i], places[i]))
    bends = torch.func.grad(lambda x, at: slopes(x, at).square().sum(), argnums=1)
    twice = vmap(bends)(images, places)
    for i in range(3):
        torch.testing.assert_close(twice[i], bends(images[i], places[i]))
