"""Reading every format that is promised, writing PNG, and the way between bytes and floats."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from metagen.errors import MetagenError
from metagen.storage import images

SIZE = 32
ROWS, COLUMNS = np.mgrid[0:SIZE, 0:SIZE]
# 64 colours that change slowly: exact in a palette, nearly exact in JPEG; unlike under every turn and flip.
COLOUR = np.stack([ROWS // 4 * 32, COLUMNS // 4 * 32, 255 - ROWS // 4 * 20], axis=2).astype(np.uint8)
GREY = COLOUR[:, :, 0] // 2 + COLOUR[:, :, 1] // 4


def chw(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)


def one_line(info: pytest.ExceptionInfo[MetagenError], *parts: str) -> bool:
    text = str(info.value)
    return "\n" not in text and all(part in text for part in parts)


def png_header(width: int, height: int) -> bytes:
    """A PNG file of under a hundred bytes that claims any dimensions."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.PNG", {}),
        ("a.bmp", {}),
        ("a.ppm", {}),
        ("a.tif", {}),
        ("a.tiff", {"compression": "tiff_lzw"}),
        ("a.webp", {"lossless": True}),
        ("ünï code 雪.png", {}),
    ],
)
def test_lossless_colour_formats_are_read_exactly(tmp_path, name, options):
    Image.fromarray(COLOUR).save(tmp_path / name, **options)
    assert torch.equal(images.read_image(tmp_path / name, SIZE, 3), chw(COLOUR))


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_lossy_formats_are_read_nearly(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(GREY).save(path, quality=95)
    assert (images.read_image(path, SIZE, 1).int() - chw(GREY).int()).abs().max() <= 12


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".gif", ".pgm", ".tiff"])
def test_grey_formats_are_read_exactly_as_one_and_as_three_channels(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(GREY).save(path)
    assert torch.equal(images.read_image(path, SIZE, 1), chw(GREY))
    assert torch.equal(images.read_image(path, SIZE, 3), chw(GREY).expand(3, -1, -1))


@pytest.mark.parametrize("suffix", [".png", ".gif", ".bmp"])
def test_palette_images_show_their_colours_not_their_indices(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(COLOUR).convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(path)
    assert (images.read_image(path, SIZE, 3).int() - chw(COLOUR).int()).abs().max() <= 1


def test_the_first_frame_of_a_gif_is_read(tmp_path):
    frames = [Image.fromarray(np.full((SIZE, SIZE), value, np.uint8)) for value in (10, 200, 90)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert images.read_image(tmp_path / "a.gif", SIZE, 1).unique().tolist() == [10]


@pytest.mark.parametrize(("pixel", "seen"), [((255, 0, 0, 255), (255, 0, 0)), ((9, 9, 9, 0), (255, 255, 255))])
def test_transparency_is_laid_on_white(tmp_path, pixel, seen):
    Image.new("RGBA", (SIZE, SIZE), pixel).save(tmp_path / "a.png")
    assert images.read_image(tmp_path / "a.png", SIZE, 3)[:, 5, 5].tolist() == list(seen)


def test_half_transparent_black_is_mid_grey_in_rgba_and_in_grey_with_alpha():
    for mode, pixel in (("RGBA", (0, 0, 0, 128)), ("LA", (0, 128))):
        assert images.from_pil(Image.new(mode, (4, 4), pixel), 4, 1).unique().tolist() == [127]


def test_a_transparent_palette_entry_is_white(tmp_path):
    image = Image.new("P", (SIZE, SIZE), 1)
    image.putpalette([0, 0, 0, 7, 7, 7])
    image.save(tmp_path / "a.png", transparency=1)
    assert images.read_image(tmp_path / "a.png", SIZE, 1).unique().tolist() == [255]


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".pgm"])
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".pgm":
        path.write_bytes(b"P5 32 32 65535\n" + (GREY.astype(">u2") * 257).tobytes())
    else:
        Image.fromarray(GREY.astype(np.uint16) * 257).save(path)
    assert torch.equal(images.read_image(path, SIZE, 1), chw(GREY))


def test_one_bit_images_are_black_and_white(tmp_path):
    bits = (ROWS + COLUMNS) % 3 == 0
    Image.fromarray(bits).save(tmp_path / "a.png")
    assert torch.equal(images.read_image(tmp_path / "a.png", SIZE, 1), chw(bits.astype(np.uint8) * 255))


@pytest.mark.parametrize("suffix", [".tiff", ".jpg"])
def test_cmyk_becomes_rgb(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.new("CMYK", (SIZE, SIZE), (0, 255, 255, 0)).save(path)  # full magenta and yellow ink: red
    red, green, blue = images.read_image(path, SIZE, 3)[:, 9, 9].tolist()
    assert red > 225
    assert max(green, blue) < 40


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, COLOUR),
        (2, np.fliplr(COLOUR)),
        (3, np.rot90(COLOUR, 2)),
        (4, np.flipud(COLOUR)),
        (5, COLOUR.transpose(1, 0, 2)),
        (6, np.rot90(COLOUR, -1)),
        (7, np.rot90(COLOUR.transpose(1, 0, 2), 2)),
        (8, np.rot90(COLOUR, 1)),
    ],
)
def test_exif_orientation_is_applied(tmp_path, orientation, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLOUR).save(tmp_path / "a.png", exif=exif)
    assert torch.equal(images.read_image(tmp_path / "a.png", SIZE, 3), chw(upright.copy()))


def test_the_centre_is_cut_out_of_wide_and_tall_images():
    wide = np.repeat(np.repeat(np.array([[10, 20, 200, 90]], np.uint8), 10, 0), 5, 1)  # 10 high, 20 wide
    seen = chw(wide[:, 5:15])
    assert torch.equal(images.from_pil(Image.fromarray(wide), 10, 1), seen)
    assert torch.equal(images.from_pil(Image.fromarray(wide.T.copy()), 10, 1), seen.transpose(1, 2))


def test_shrinking_is_antialiased_and_keeps_flat_areas():
    checks = ((np.indices((128, 128)).sum(0) % 2) * 255).astype(np.uint8)
    small = images.from_pil(Image.fromarray(checks), 32, 1)[:, 2:-2, 2:-2].int()
    assert (small - 127).abs().max() <= 2  # picking pixels would give all 0 or all 255
    assert images.from_pil(Image.new("L", (50, 41), 77), 64, 1).unique().tolist() == [77]


@pytest.mark.parametrize("dimensions", [(30_000, 30_000), (12_000, 12_000), (8_001, 8_000), (60_000, 2_000)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, dimensions, monkeypatch, recwarn):
    Image.init()  # its readers load an image of their own when they are first needed
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    (tmp_path / "bomb.png").write_bytes(png_header(*dimensions))
    with pytest.raises(MetagenError) as info:
        images.read_image(tmp_path / "bomb.png", SIZE, 3)
    assert one_line(info, "bomb.png", "pixels", "64000000")
    assert not recwarn.list


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".gif", ".pgm", ".ppm", ".tiff"])
def test_truncated_files_are_named(tmp_path, suffix):
    path = tmp_path / f"cut{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    for share in (0.02, 0.5, 0.8):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(MetagenError) as info:
            images.read_image(path, SIZE, 3)
        assert one_line(info, f"cut{suffix}")


def test_other_files_are_named(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "print.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (tmp_path / "folder.png").mkdir()
    for name, problem in [
        ("text.png", "not an image"),
        ("empty.jpg", "not an image"),
        ("print.png", "not an image"),
        ("folder.png", "directory"),
        ("missing.png", "no such file"),
    ]:
        with pytest.raises(MetagenError) as info:
            images.read_image(tmp_path / name, SIZE, 1)
        assert one_line(info, name, problem)


def test_numbers_that_are_no_colours_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tiff")
    Image.fromarray(np.full((4, 4), 70_000, np.int32)).save(tmp_path / "deep.tiff")
    for name, problem in (("float.tiff", "floating-point"), ("deep.tiff", "70000")):
        with pytest.raises(MetagenError) as info:
            images.read_image(tmp_path / name, 4, 1)
        assert one_line(info, name, problem)


@pytest.mark.parametrize(("size", "channels"), [(0, 3), (8, 2)])
def test_impossible_sizes_and_channels_are_refused(size, channels):
    with pytest.raises(MetagenError, match="1 or 3 channels"):
        images.from_pil(Image.new("L", (4, 4)), size, channels)


def test_bytes_come_back_from_floats_in_every_precision():
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    assert torch.equal(images.to_uint8(images.to_float(every)), every)
    assert torch.equal(images.to_uint8(images.to_float(every).half()), every)
    assert torch.equal(images.to_uint8(images.to_float(every).double()), every)
    coarse = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert torch.equal(images.to_uint8(coarse), images.to_uint8(coarse.float()))  # rounded once, not twice


def test_to_uint8_rounds_and_clamps():
    values = torch.tensor([-0.5, 0.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.0, 1.7, float("inf")])
    assert images.to_uint8(values).tolist() == [0, 0, 0, 1, 255, 255, 255, 255]


def test_the_wrong_kind_of_number_is_refused():
    for convert, wrong in (
        (images.to_uint8, torch.zeros(1, 2, 2, dtype=torch.uint8)),
        (images.to_uint8, torch.full((1, 2, 2), float("nan"))),
        (images.to_float, torch.zeros(1, 2, 2)),
    ):
        with pytest.raises(MetagenError):
            convert(wrong)


def test_image_files_are_sorted_and_nothing_else(tmp_path):
    for name in ("b.png", "a.JPG", "c.tif", "notes.txt", ".hidden.png", "._a.JPG", "png"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in images.image_files(tmp_path)] == ["a.JPG", "b.png", "c.tif"]


def test_read_folder_stacks_mixed_sizes_in_order(tmp_path):
    for value, side in ((30, 9), (10, 32), (20, 50)):
        Image.new("L", (side, side), value).save(tmp_path / f"{value}.png")
    found = images.read_folder(tmp_path, SIZE, 3)
    assert found.shape == (3, 3, SIZE, SIZE)
    assert found[:, 0, 0, 0].tolist() == [10, 20, 30]
    assert images.read_folder(tmp_path / "20.png", SIZE, 1).shape == (1, 1, SIZE, SIZE)


def test_read_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(MetagenError, match="no images directly in it"):
        images.read_folder(tmp_path, SIZE, 3)
    with pytest.raises(MetagenError, match="no such folder"):
        images.read_folder(tmp_path / "absent", SIZE, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
@pytest.mark.parametrize("pad", [0, 1, 3])
def test_grid_places_every_image(dtype, pad):
    batch = torch.randint(0, 200, (2, 3, 1, 4, 5), generator=torch.Generator().manual_seed(0)).to(dtype)
    white = 255 if dtype == torch.uint8 else 1
    expected = torch.full((1, pad + 2 * (4 + pad), pad + 3 * (5 + pad)), white, dtype=dtype)
    for row in range(2):
        for column in range(3):
            top, left = pad + row * (4 + pad), pad + column * (5 + pad)
            expected[:, top : top + 4, left : left + 5] = batch[row, column]
    assert torch.equal(images.grid(batch, pad), expected)


def test_png_files_hold_the_pixels(tmp_path):
    for name, channels in (("grey", 1), ("colour", 3)):
        pixels = chw(COLOUR)[:channels]
        images.save_png(pixels, tmp_path / f"{name}.png")
        images.save_png(images.to_float(pixels).requires_grad_(), tmp_path / f"{name}-float.png")
        for written in (f"{name}.png", f"{name}-float.png"):
            with Image.open(tmp_path / written) as image:
                assert np.array_equal(np.array(image).reshape(SIZE, SIZE, -1), COLOUR[:, :, :channels])


def test_other_shapes_are_not_written(tmp_path):
    for shape in ((SIZE, SIZE), (2, SIZE, SIZE), (1, 1, SIZE, SIZE)):
        with pytest.raises(MetagenError, match="expected an image"):
            images.save_png(torch.zeros(shape), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_save_pngs_numbers_them(tmp_path):
    images.save_pngs(torch.stack([torch.full((1, 4, 4), i / 255) for i in range(12)]), tmp_path / "new")
    names = [path.name for path in images.image_files(tmp_path / "new")]
    assert names == [f"{i:04}.png" for i in range(12)]
    assert images.read_folder(tmp_path / "new", 4, 1)[:, 0, 0, 0].tolist() == list(range(12))


@pytest.mark.parametrize(
    ("modes", "shape", "channels", "told"),
    [
        (("L", "1"), (28, 28), 1, []),
        (("RGB",), (28, 28), 3, []),
        (("L", "RGB"), (28, 28), 1, ["colours made grey"]),
        (("L", "RGB"), (28, 28), 3, ["grey made RGB"]),
        (("P",), (40, 30), 1, ["40 x 30 pixels cut square and resized to 28 x 28", "colours made grey"]),
    ],
)
def test_what_is_converted_is_told(tmp_path, modes, shape, channels, told):
    for mode in modes:
        Image.new(mode, shape).save(tmp_path / f"{mode}.png")
    assert images.conversions(tmp_path, 28, channels) == told
    assert images.read_folder(tmp_path, 28, channels).shape == (len(modes), channels, 28, 28)
