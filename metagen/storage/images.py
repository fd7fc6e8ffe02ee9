"""Images between files and tensors: uint8 [C, H, W] on disk and in memory, float in [0, 1] in the networks."""

from __future__ import annotations

import importlib
import importlib.util
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError, features

from metagen.core.quiet import unwarned
from metagen.errors import MetagenError, some
from metagen.storage.files import is_litter, write_atomically

# What is read always, and what is read where there is a decoder of it.
COMMON = (
    *(".apng", ".bmp", ".dib", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg"),
    *(".jpx", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
AVIF, HEIF = (".avif", ".avifs"), (".heic", ".heics", ".heif", ".heifs", ".hif")
DECODERS = {AVIF: "a newer Pillow: pip install -U pillow", HEIF: "pillow-heif: pip install pillow-heif"}
_HAS_AVIF, _HAS_HEIF = bool(features.check("avif")), importlib.util.find_spec("pillow_heif") is not None
IMAGE_SUFFIXES = COMMON + (AVIF if _HAS_AVIF else ()) + (HEIF if _HAS_HEIF else ())
MAX_PIXELS = 64_000_000  # decoding more would take gigabytes; a small file can claim any number

# Named, so that a file of a user's cannot reach the rarer decoders: one of them (EPS) starts another program.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP", "DIB", "JPEG2000", "AVIF", "HEIF")
_BRANDS = {b"avif": AVIF, b"avis": AVIF} | dict.fromkeys((b"heic", b"heix", b"hevc", b"mif1", b"msf1"), HEIF)


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """Round images to 8 bits; values outside [0, 1] are clamped.

    images: float [..., C, H, W], shown as 0 (black) to 1 (white).

    Raises:
        MetagenError: the images are not floating-point, or hold not-a-number values.
    """
    if not images.is_floating_point():
        raise MetagenError(f"images: expected floats in [0, 1], got {images.dtype}")
    if images.isnan().any():
        raise MetagenError("images: not-a-number values; the generator that made them has diverged")
    return (images.float().clamp(0, 1) * 255).round().to(torch.uint8)  # bfloat16 would round twice


def to_float(images: torch.Tensor) -> torch.Tensor:
    """The inverse of `to_uint8`: uint8 [..., C, H, W] to float32 in [0, 1].

    Raises:
        MetagenError: the images are not uint8.
    """
    if images.dtype != torch.uint8:
        raise MetagenError(f"images: expected uint8, got {images.dtype}")
    return images.float() / 255


def from_pil(image: Image.Image, size: int, channels: int, paper: str = "white") -> torch.Tensor:
    """An image of any mode as uint8 [channels, size, size].

    Turned as its EXIF data say, its central square cut out, transparency laid on paper, resized with Lanczos.

    paper: a colour's name.

    Raises:
        MetagenError: the size or the number of channels is refused, or the image has too many pixels or an
            unusual number format.
    """
    if size < 1 or channels not in (1, 3):
        raise MetagenError(f"images: expected size >= 1 and 1 or 3 channels, got size {size} and {channels} channels")
    check_pixels(image)
    image = ImageOps.exif_transpose(image)
    mode = "L" if channels == 1 else "RGB"
    image = _opaque(_central_square(image), paper).convert(mode)
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(image).reshape(size, size, channels)).permute(2, 0, 1).contiguous()


def resized(images: torch.Tensor, size: int) -> torch.Tensor:
    """Square images [..., S, S] of levels 0 to 255 as uint8 [..., size, size], resized as `from_pil` does it.

    The same to within one level: of a half, it is left to the last bit whether it is rounded up or down.
    """
    levels = images.float().round()
    if size != images.shape[-1]:
        weights = _lanczos(images.shape[-1], size).to(images.device)
        across = (levels @ weights.T).round_().clamp_(0, 255)  # in 8 bits between the two passes, like PIL
        levels = (weights @ across).round_().clamp_(0, 255)
    return levels.to(torch.uint8)


@cache
def _lanczos(source: int, size: int) -> torch.Tensor:
    """The weight of every pixel of a line of `source` in every pixel of one of `size`, [size, source]."""
    scale = source / size
    places = (np.arange(source) + 0.5 - (np.arange(size)[:, None] + 0.5) * scale) / max(scale, 1)
    weights = np.sinc(places) * np.sinc(places / 3) * (abs(places) < 3)
    weights /= weights.sum(1, keepdims=True)
    return torch.from_numpy(weights).float()


@cache
def _formats() -> tuple[str, ...]:
    """The formats that can be read here."""
    if _HAS_HEIF:
        importlib.import_module("pillow_heif").register_heif_opener()
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def whole_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """All pixels of an image of any mode, [H, W, 3]: neither cut nor resized, otherwise as `from_pil` reads it.

    Transparency is laid on black where nothing could be seen on white.
    """
    image = ImageOps.exif_transpose(image)
    pixels = np.asarray(_opaque(image).convert("RGB"))
    if image.has_transparency_data and (pixels == pixels[0, 0]).all():
        return np.asarray(_opaque(image, "black").convert("RGB"))
    return pixels


def read_image(
    path: Path, size: int, channels: int, paper: str = "white", look: Callable[[Image.Image], None] | None = None
) -> torch.Tensor:
    """Read an image file (png, jpg, webp, bmp, gif, pgm, ppm, tiff, avif ...) as uint8 [channels, size, size].

    See `from_pil`.

    look: is shown the image as it was opened, once it was read.

    Raises:
        MetagenError: the file is missing, damaged, too large or no image, or the options are refused.
    """
    with _opened(path) as image:
        pixels = from_pil(image, size, channels, paper)
        if look is not None:
            look(image)
        return pixels


def read_whole(path: Path) -> NDArray[np.uint8]:
    """Read an image file as it is, [H, W, 3]; see `whole_pixels`.

    Raises:
        MetagenError: the file is missing, damaged, too large or no image.
    """
    with _opened(path) as image:
        check_pixels(image)
        return whole_pixels(image)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An image file that is read in the block, in which errors of decoders become one line.

    Raises:
        MetagenError: the file is missing, damaged, too large or no image.
    """
    try:
        # Damaged EXIF data are passed over, damaged pixels raise; too many of them are refused by `check_pixels`.
        with unwarned(UserWarning, Image.DecompressionBombWarning), Image.open(path, formats=_formats()) as image:
            yield image
    except MetagenError as error:
        raise MetagenError(f"{path}: {error}") from error
    except FileNotFoundError:
        raise MetagenError(f"{path}: no such file") from None
    except Image.DecompressionBombError:
        raise MetagenError(f"{path}: more than {MAX_PIXELS} pixels in all; make it smaller first") from None
    except UnidentifiedImageError:
        missing, known = _decoder_missing(path), ", ".join(IMAGE_SUFFIXES)
        reason = f"needs {missing}" if missing else f"not an image that can be read ({known}); unpack archives first"
        raise MetagenError(f"{path}: {reason}") from None
    except Exception as error:  # on damaged files the decoders raise nearly anything: SyntaxError, struct.error ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MetagenError(f"{path}: cannot read this image, it may be damaged ({reason})") from error


def check_pixels(image: Image.Image) -> None:
    """Refuse an image of more pixels than `MAX_PIXELS`, before it is decoded.

    Raises:
        MetagenError: it has more, or none.
    """
    width, height = image.size
    if not 0 < width * height <= MAX_PIXELS:
        raise MetagenError(f"{width} x {height} pixels, expected 1 to {MAX_PIXELS} in all; make it smaller first")


def _decoder_missing(path: Path) -> str | None:
    """The library to install to read a file, by its first bytes; None where none would help."""
    with path.open("rb") as file:
        head = file.read(12)
    kind = _BRANDS.get(head[8:]) if head[4:8] == b"ftyp" else None
    return DECODERS[kind] if kind and kind[0] not in IMAGE_SUFFIXES else None


def is_image_name(name: str) -> bool:
    """Whether a file of this name counts as an image: by its suffix; hidden files (as macOS leaves) do not."""
    return not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)


def image_files(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted by name; other files are ignored.

    Raises:
        MetagenError: there is no such folder, or it cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if is_image_name(path.name) and path.is_file())
    except FileNotFoundError:
        raise MetagenError(f"{folder}: no such folder") from None
    except OSError as error:
        raise MetagenError(f"{folder}: cannot read this folder ({error.strerror})") from error


def passed_over(folder: Path) -> list[str]:
    """The names in a folder but for its image files and litter; with each the library that would read it, if any."""
    images = set(image_files(folder))  # a link that leads nowhere is named like one, but is none
    others = [path for path in sorted(folder.iterdir()) if path not in images and not is_litter(path.name)]
    return [path.name + "/" * path.is_dir() + needed(path.name) for path in others]


def is_other(name: str) -> bool:
    """Whether a file is neither an image, by its name, nor one that systems leave anywhere."""
    return not is_image_name(name) and not is_litter(name)


def needed(name: str) -> str:
    """The library to install to read a file of this name, in brackets; an empty text where none would help."""
    return next((f" (needs {library})" for kind, library in DECODERS.items() if name.lower().endswith(kind)), "")


def unused_levels(path: Path) -> str:
    """A note on the largest value in a file of more than 8 bits a pixel; an empty text for any other file."""
    if not path.is_file():
        return ""
    with Image.open(path, formats=_formats()) as image:
        if image.mode != "I" and not image.mode.startswith("I;16"):
            return ""
        return f"; its values end at {np.asarray(image).max()} of 65535, save it in 8 bits"


def frames(image: Path | Image.Image) -> int:
    """How many frames or pages an image, or a file of one, holds; the previews that cameras add do not count."""
    if isinstance(image, Path):
        with Image.open(image, formats=_formats()) as opened:
            return frames(opened)
    try:
        return 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))
    except Exception:  # of a damaged one decoders raise nearly anything; the first frame may be whole
        return 1


def no_images(folder: Path, others: Sequence[str]) -> MetagenError:
    """The error for a folder without image files, in which `others` lie."""
    listed = f", but {some(others)}" if others else ""
    return MetagenError(f"{folder}: no images directly in it{listed}; expected some of {', '.join(IMAGE_SUFFIXES)}")


def conversions(folder: Path, size: int, channels: int) -> list[str]:
    """The changes that `read_folder` makes to images of another size or colour, in words; none where all fit."""
    shapes, colours = set(), set()
    for path in [folder] if folder.is_file() else image_files(folder):
        with Image.open(path, formats=_formats()) as image:
            shapes.add(image.size)
            colours.add(image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;16"))
    changes = []
    if other := sorted(shapes - {(size, size)}):
        named = ", ".join(f"{width} x {height}" for width, height in other[:3]) + (" ..." if len(other) > 3 else "")
        changes.append(f"{named} pixels cut square and resized to {size} x {size}")
    if (channels == 3) in colours:
        changes.append("grey made RGB" if channels == 3 else "colours made grey")
    return changes


def read_files(paths: Iterable[Path], size: int, channels: int) -> torch.Tensor:
    """Read one or more image files, in this order: uint8 [n, channels, size, size]; see `read_image`."""
    return torch.stack([read_image(path, size, channels) for path in paths])


def read_folder(folder: Path, size: int, channels: int) -> torch.Tensor:
    """Read the images of a folder in the order of their names, or one image file: uint8 [k, channels, size, size].

    Raises:
        MetagenError: there is no such folder, no image directly in it, or one that cannot be read.
    """
    files = [folder] if folder.is_file() else image_files(folder)
    if not files:
        raise no_images(folder, passed_over(folder))
    return read_files(files, size, channels)


def grid(images: torch.Tensor, pad: int = 2) -> torch.Tensor:
    """Lay [rows, columns, C, H, W] out as one image [C, H', W'] with `pad` white pixels around and between."""
    rows, columns, channels, height, width = images.shape
    high, wide = height + pad, width + pad
    white = 255 if images.dtype == torch.uint8 else 1
    canvas = images.new_full((channels, pad + rows * high, pad + columns * wide), white)
    cells = canvas[:, pad:, pad:].unflatten(1, (rows, high)).unflatten(3, (columns, wide))
    cells[:, :, :height, :, :width] = images.permute(2, 0, 3, 1, 4)
    return canvas


def save_png(image: torch.Tensor, path: Path) -> None:
    """Write one image [C, H, W], uint8 or float in [0, 1], C = 1 or 3, as a whole file or not at all.

    Raises:
        MetagenError: it is not such an image, or cannot be written there.
    """
    if image.dim() != 3 or image.shape[0] not in (1, 3):
        raise MetagenError(f"{path}: expected an image [C, H, W] with C = 1 or 3, got {list(image.shape)}")
    image = image.detach().cpu()
    pixels = (image if image.dtype == torch.uint8 else to_uint8(image)).permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())


def save_pngs(images: torch.Tensor, folder: Path) -> None:
    """Write images [n, C, H, W] as 0000.png, 0001.png ... into a folder, which is made when missing."""
    digits = max(4, len(str(len(images) - 1)))
    for i, image in enumerate(images):
        save_png(image, folder / f"{i:0{digits}}.png")


def _central_square(image: Image.Image) -> Image.Image:
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return image if width == height else image.crop((left, top, left + side, top + side))


def _opaque(image: Image.Image, paper: str = "white") -> Image.Image:
    """The image in a mode of 8 bits without transparency."""
    if image.mode == "F":
        raise MetagenError("floating-point pixels, expected 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, paper), image).convert("RGB")
    try:
        return image if image.mode == "L" else image.convert("RGB")
    except ValueError:
        raise MetagenError(f"colour mode {image.mode}, expected grey, RGB, RGBA, palette or CMYK") from None


def _eight_bits(image: Image.Image) -> Image.Image:
    # PIL's own convert("L") clips at 255, so that nearly all of a 16-bit image would be white.
    pixels = np.asarray(image)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise MetagenError(f"pixel values {pixels.min()} to {pixels.max()}, expected 8 or 16 bits")
    scaled = pixels.astype(np.uint32)  # in place from here: an image may hold 64 million
    scaled += 128
    scaled //= 257
    return Image.fromarray(scaled.astype(np.uint8))
