"""Damaged files, made by mutating sound ones: images, saved models and extractors, and the same each time.

As a program it reads all of them and prints, as JSON, how many there were, what went wrong, and the memory it took.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import resource
import shutil
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load, save

import metagen
from metagen.cli import main as run
from metagen.errors import MetagenError
from metagen.metrics import extractors
from metagen.metrics.extractors.extractor_files import load_extractor, save_extractor
from metagen.model import Model
from metagen.storage.images import read_folder, read_image
from metagen.tasks.splits import Split
from tests.doubles import tiny_learner

SECONDS, MEGABYTES = 20, 1000  # one damaged file may take; images.MAX_PIXELS in colour are some 600 MB
KINDS = ("model", "base", "mine", "extractor")  # the sound exports; "mine" is adapted from "base"
Damage = Callable[[Path], None]  # changes files in the folder of an export


def read_export(folder: Path) -> Any:
    """Load a folder as what its name says it is."""
    return load_extractor(folder) if folder.name == "extractor" else metagen.load(folder)


def read_picture(path: Path) -> Any:
    """Read a file alone and as its folder."""
    whole = read_folder(path.parent, 8, 3)
    return whole, read_image(path, 8, 1)


def complaint(read: Callable[[Path], Any], path: Path) -> str | None:
    """What is wrong with how a damaged file is answered: None if it is refused in one short line, or harmless."""
    started = time.perf_counter()
    try:
        read(path)
    except MetagenError as error:
        if "\n" in str(error) or len(str(error)) > 3000:
            return f"not one short line: {str(error)[:300]!r}"
    except Exception as error:  # whatever else comes out is what is looked for
        return f"{type(error).__name__}: {str(error)[:300]}"
    seconds = time.perf_counter() - started
    return f"took {seconds:.0f} s" if seconds > SECONDS else None


# images


def sound_images() -> dict[str, bytes]:
    """A small image in every format, by file name."""
    rows, columns = np.mgrid[0:24, 0:24]
    image = Image.fromarray(np.stack([rows * 10, columns * 10, 255 - rows * 5], 2).astype(np.uint8))
    made = {}
    for name, mode, options in [
        ("rgb.png", "RGB", {}),
        ("palette.png", "P", {"transparency": 3}),
        ("deep.png", "I;16", {}),
        ("photo.jpg", "RGB", {"exif": _turned()}),
        ("still.gif", "P", {}),
        ("plain.bmp", "RGB", {}),
        ("lossless.webp", "RGBA", {"lossless": True}),
        ("lossy.webp", "RGB", {}),
        ("raw.tiff", "RGB", {}),
        ("lzw.tiff", "RGB", {"compression": "tiff_lzw"}),
        ("deflate.tif", "L", {"compression": "tiff_deflate"}),
        ("grey.pgm", "L", {}),
        ("colour.ppm", "RGB", {}),
    ]:
        buffer = io.BytesIO()
        kind = {"jpg": "JPEG", "tif": "TIFF", "pgm": "PPM"}.get(name.split(".")[1], name.split(".")[1])
        whole = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 200) if mode == "I;16" else None
        (whole or image.convert(mode)).save(buffer, kind, **options)
        made[name] = buffer.getvalue()
    return made


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def png(width: int, height: int, *chunks: tuple[bytes, bytes], depth: int = 8, colour: int = 0) -> bytes:
    """A PNG that claims any dimensions and holds any chunks."""
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (header, *chunks, (b"IEND", b""))
    )


def tiff(**entries: tuple[int, int, int]) -> bytes:
    """An 8 x 8 grey TIFF in which some entries have another (type, count, value)."""
    tags = {
        "width": (256, 3, 1, 8),
        "height": (257, 3, 1, 8),
        "bits": (258, 3, 1, 8),
        "compression": (259, 3, 1, 1),
        "photometric": (262, 3, 1, 1),
        "offsets": (273, 4, 1, 256),
        "samples": (277, 3, 1, 1),
        "rows": (278, 4, 1, 8),
        "counts": (279, 4, 1, 64),
    }
    tags.update({name: (tags[name][0], *entry) for name, entry in entries.items()})
    listed = b"".join(struct.pack("<HHII", *tag) for tag in tags.values())
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + listed + struct.pack("<I", 0)
    return data.ljust(256, b"\0") + bytes(64)


def truncated_images() -> dict[str, bytes]:
    """Every format cut off at several places."""
    return {
        f"cut-{tenths}-{name}": data[: len(data) * tenths // 10]
        for name, data in sound_images().items()
        for tenths in (1, 3, 5, 7, 9)
    }


def flipped_images() -> dict[str, bytes]:
    """Every format with a byte of its header turned over, and with random bytes anywhere."""
    made = {}
    for name, data in sound_images().items():
        for place in (0, 1, 4, 8, 12, 17, 19, 22, 24, 25, 28, 33):
            made[f"header-{place}-{name}"] = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
        for seed in range(10):
            made[f"random-{seed}-{name}"] = random_bytes(data, seed)
    return made


def random_bytes(data: bytes, seed: int) -> bytes:
    """Some bytes set at random, of which one in two near the start."""
    rng, changed = random.Random(seed), bytearray(data)  # noqa: S311 - no secret
    for _ in range(rng.choice((1, 3, 20))):
        changed[rng.randrange(rng.choice((min(64, len(data)), len(data))))] = rng.randrange(256)
    return bytes(changed)


def huge_images() -> dict[str, bytes]:
    """Small files that claim enormous dimensions, or inflate to far more than they claim."""
    sound, much = sound_images(), zlib.compress(bytes(100_000_000), 9)
    made = {}
    for side in (0, 7_900, 20_000, 65_535, 2**31 - 1, 2**32 - 1):
        nothing = (b"IDAT", zlib.compress(bytes(9)))
        made[f"side-{side}.png"] = png(side, side, nothing)
        made[f"rgba-side-{side}.png"] = png(side, side, nothing, colour=6)
        made[f"deep-side-{side}.png"] = png(side, side, nothing, depth=16)
        made[f"side-{side}.bmp"] = sound["plain.bmp"][:18] + 2 * struct.pack("<I", side) + sound["plain.bmp"][26:]
        made[f"side-{side}.pgm"] = b"P5 %d %d 255\n" % (side, side) + bytes(64)
        made[f"side-{side}.ppm"] = b"P3 %d %d 255\n" % (side, side) + b"1 " * 64
        made[f"side-{side}.tiff"] = tiff(width=(4, 1, side), height=(4, 1, side))
        made[f"side-{side}.gif"] = (
            sound["still.gif"][:6] + 2 * struct.pack("<H", side % 65536) + sound["still.gif"][10:]
        )
    return {
        **made,
        "whole.png": png(7_900, 7_900, (b"IDAT", zlib.compress(bytes(7_900 * 15_801), 1)), depth=16),
        "digits.pgm": b"P5 " + b"9" * 100_000 + b" 8 255\n",
        "comment.pgm": b"P5 #" + b"x" * 1_000_000,
        "negative.pgm": b"P5 -8 -8 255\n" + bytes(64),
        "range.pgm": b"P5 8 8 0\n" + bytes(64),
        "inflates.png": png(8, 8, (b"IDAT", much)),
        "text.png": png(8, 8, (b"zTXt", b"a\0\0" + much), (b"IDAT", zlib.compress(bytes(72)))),
        "profile.png": png(8, 8, (b"iCCP", b"a\0\0" + much), (b"IDAT", zlib.compress(bytes(72)))),
        "many-texts.png": png(8, 8, *[(b"tEXt", b"a\0" + b"x" * 900)] * 5000, (b"IDAT", zlib.compress(bytes(72)))),
        "many-frames.png": png(
            *(8, 8, (b"acTL", struct.pack(">II", 2**31 - 1, 0))),
            *[(b"fcTL", struct.pack(">IIIIIHHBB", i, 2**31 - 1, 2**31 - 1, 0, 0, 1, 1, 0, 0)) for i in range(20)],
            (b"IDAT", zlib.compress(bytes(72))),
        ),
    }


def strange_images() -> dict[str, bytes]:
    """What is no image, or another one than it says; broken checksums; absurd TIFF entries."""
    sound = sound_images()
    broken = bytearray(sound["rgb.png"])
    broken[29] ^= 1  # in the checksum of the first chunk
    strange = {
        "empty.png": b"",
        "text.jpg": b"not an image\n" * 50,
        "zip.png": b"PK\3\4" + bytes(200),
        "zeros.bmp": bytes(5000),
        "checksum.png": bytes(broken),
        "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n",
        "svg.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "no-data.png": png(8, 8),
        "no-header.png": b"\x89PNG\r\n\x1a\n",
        "short-data.png": png(8, 8, (b"IDAT", zlib.compress(bytes(30)))),
        "depth.png": png(8, 8, (b"IDAT", zlib.compress(bytes(72))), depth=77),
        "colour.png": png(8, 8, (b"IDAT", zlib.compress(bytes(72))), colour=5),
        "endless.gif": sound["still.gif"][:13] + b"\x21\xfe" + b"\xff" * 100_000,
        "no-frame.gif": b"GIF89a\x08\0\x08\0\0\0\0;",
        "itself.tiff": b"II*\0" + struct.pack("<I", 4) + bytes(64),
        "nowhere.tiff": b"II*\0" + struct.pack("<I", 2**32 - 1) + bytes(64),
        "entries.tiff": b"II*\0" + struct.pack("<IH", 8, 65535) + bytes(64),
        "big.tiff": b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**63) + bytes(64),
    }
    for field in ("width", "height", "bits", "compression", "photometric", "offsets", "samples", "rows", "counts"):
        for name, entry in [
            ("count", (4, 2**32 - 1, 8)),
            ("value", (4, 1, 2**32 - 1)),
            ("zero", (4, 1, 0)),
            ("type", (99, 1, 8)),
            ("rational", (5, 1, 8)),
            ("ascii", (2, 4, 8)),
        ]:
            strange[f"{field}-{name}.tiff"] = tiff(**{field: entry})
    for name, data in sound.items():  # under the suffix of another format
        strange[f"{name}.{'gif' if 'png' in name else 'png'}"] = data
    return strange


IMAGES = {"truncated": truncated_images, "flipped": flipped_images, "huge": huge_images, "strange": strange_images}


# exports


def write_exports(root: Path) -> None:
    """Write a sound export of each kind."""
    torch.manual_seed(0)
    split = Split(("a", "b"), ("c",), ("d",))
    Model(tiny_learner("maml", "vae"), {"data": {"task_set": "folder"}}, split=split).save(root / "model")
    base = Model(tiny_learner("reptile", "redraw", rate=0.01), {"data": {}}, split=split)
    base.save(root / "base")
    base.adapt(torch.rand(2, 1, 8, 8), steps=1).save(root / "mine")
    extractor = extractors["embedding"](8, 1, (8, 8, 8), 2, 2)
    save_extractor(root / "extractor", extractor, {"data": {}}, split)


def weights_of(folder: Path) -> Path:
    """The weights file of an export."""
    return folder / ("difference.safetensors" if folder.name == "mine" else "model.safetensors")


def put(file: Path, data: bytes) -> None:
    """Put other bytes in place of a file of tensors, and their hash in the config, so that they are looked at."""
    file.write_bytes(data)
    config = json.loads((file.parent / "config.json").read_text())
    config["support_sha256" if file.stem == "support" else "weights_sha256"] = hashlib.sha256(data).hexdigest()
    (file.parent / "config.json").write_text(json.dumps(config))


def places(value: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where anything stands inside JSON data."""
    yield above
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*above, key))


def replaced(value: Any, place: tuple[str | int, ...], new: Any) -> Any:
    """JSON data with another value at a place, where its containers are if they are there."""
    if not place:
        return new
    copy = value.copy()
    copy[place[0]] = replaced(value[place[0]], place[1:], new)
    return copy


def _text(change: Callable[[str], str | bytes]) -> Damage:
    def damage(folder: Path) -> None:
        changed = change((folder / "config.json").read_text())
        (folder / "config.json").write_bytes(changed.encode() if isinstance(changed, str) else changed)

    return damage


def _value(change: Callable[[dict[str, Any]], Any]) -> Damage:
    return _text(lambda text: json.dumps(change(json.loads(text))))


def _tensors(change: Callable[[dict[str, torch.Tensor], str], dict[str, torch.Tensor]]) -> Damage:
    def damage(folder: Path) -> None:
        tensors = load(weights_of(folder).read_bytes())
        put(weights_of(folder), save(change(tensors, sorted(tensors)[0])))

    return damage


def _bytes(change: Callable[[bytes], bytes]) -> Damage:
    return lambda folder: put(weights_of(folder), change(weights_of(folder).read_bytes()))


def with_header(header: bytes, data: bytes, length: int | None = None) -> bytes:
    """A safetensors file of this header."""
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def _header(change: Callable[[dict[str, Any], str], Any]) -> Damage:
    """Change the header alone, given it and the name of its first tensor."""

    def edit(file: bytes) -> bytes:
        end = 8 + struct.unpack("<Q", file[:8])[0]
        header = json.loads(file[8:end])
        names = sorted(name for name in header if name != "__metadata__")
        return with_header(json.dumps(change(header, names[0])).encode(), file[end:])

    return _bytes(edit)


def _entry(**changes: Any) -> Damage:
    return _header(lambda header, name: {**header, name: {**header[name], **changes}})


DEEP = 100_000
STRANGE: dict[str, Any] = {
    "null": None,
    "true": True,
    "list": [],
    "nested": [[[["x"]]]],
    "dict": {"a": 1},
    "text": "x",
    "empty": "",
    "lines": "a\nb\r\u2028c",
    "zero": 0,
    "negative": -1,
    "half": 0.5,
    "huge": 10**12,
    "endless": 10**400,
    "infinite": float("inf"),
    "nan": float("nan"),
    "surrogate": "\ud800",
    "nul": "a\0b",
    "up": "../" * 50,
    "long": "x" * 200_000,
    "many": [1] * 100_000,
    "deep": json.loads("[" * 400 + "]" * 400),
}


def config_damage() -> dict[str, Damage]:
    """The config as text: broken, of other things, nested without end."""
    return {
        "empty": _text(lambda text: ""),
        "half": _text(lambda text: text[: len(text) // 2]),
        "list": _text(lambda text: f"[{text}]"),
        "null": _text(lambda text: "null"),
        "number": _text(lambda text: "9" * 10_000),
        "latin": _text(lambda text: text.encode() + b"\xe4"),
        "utf-16": _text(lambda text: text.encode("utf-16")),
        "mark": _text(lambda text: "\ufeff" + text),
        "nul": _text(lambda text: text + "\0"),
        "trailing": _text(lambda text: text + "{}"),
        "deep-lists": _text(lambda text: "[" * DEEP),
        "deep-dicts": _text(lambda text: '{"a":' * DEEP),
        "deep-info": _text(lambda text: text.replace('"info": {', f'"info": {{"x": {"[" * DEEP}{"]" * DEEP},')),
        "infinite": _text(lambda text: text.replace("8", "Infinity", 1)),
        "twice": _text(lambda text: text.replace('"version"', '"kind": "x", "version": 9, "version"')),
        "twice-name": _text(lambda text: text.replace('"name"', '"name": 3, "name"')),
        "large": _text(lambda text: text + " " * 10**7),
        "zip": _text(lambda text: b"PK\3\4" + bytes(300)),
        "gone": lambda folder: (folder / "config.json").unlink(),
        "folder": _config_is_a_folder,
    }


def _config_is_a_folder(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()


def _put(place: tuple[str | int, ...], new: Any) -> Damage:
    return _value(lambda config: replaced(config, place, new))


def _options(part: str, **options: Any) -> Damage:
    return _value(lambda config: {**config, part: {**config[part], **options}})


def value_damage(folder: Path) -> dict[str, Damage]:
    """Every value of this config, also inside its options, replaced by strange ones."""
    config = json.loads((folder / "config.json").read_text())
    return {
        f"{'.'.join(map(str, place))}-{name}": _put(place, new)
        for place in places(config)
        if place
        for name, new in STRANGE.items()
    }


def option_damage() -> dict[str, Damage]:
    """Options that describe enormous networks, or unknown things; for models."""
    made: dict[str, dict[str, Any]] = {
        "latent": {"latent": 10**12},
        "latent-possible": {"latent": 10**8},
        "latent-overflow": {"latent": 2**62},
        "widths": {"widths": [10**9, 10**9]},
        "width-first": {"widths": [10**9, 4]},
        "width-prime": {"widths": [4, 10**15 + 37]},
        "widths-many": {"widths": [1] * 3000, "size": 2**3000},
        "size": {"size": 2**40},
        "size-possible": {"size": 2**14},
        "size-text": {"size": "8"},
        "channels": {"channels": 10**9},
        "unknown": {"latnet": 3},
        "self": {"self": 3},
        "generator": {"generator": {}},
        "vae-depth": {"name": "vae", "depth": 10**12},
        "vae-norm": {"name": "vae", "norm": ["group"]},
        "redraw-hidden": {"name": "redraw", "hidden": 10**12},
        "redraw-rate": {"name": "redraw", "null_rate": float("nan")},
        "name-long": {"name": "v" * 500_000},
        "name-other": {"name": "__class__"},
    }
    damage = {name: _options("generator", **options) for name, options in made.items()}
    adapted_params: dict[str, Any] = {
        "many": ["*"] * 10_000,
        "globs": ["*a" * 500 + "b"],
        "bracket": ["[" * 1000],
        "number": [3],
        "dict": {},
    }
    for name, globs in adapted_params.items():
        damage[f"moves-{name}"] = _options("learner", adapted_params=globs)
    return damage


def extractor_option_damage() -> dict[str, Damage]:
    """Options that describe enormous or impossible extractors."""
    made: dict[str, dict[str, Any]] = {
        "size": {"size": 2**40},
        "size-possible": {"size": 2**15},
        "widths": {"widths": [8 * 10**9] * 3},
        "widths-many": {"widths": [8] * 100_000},
        "widths-float": {"widths": [8.0, 8.0, 8.0]},
        "dimensions": {"dimensions": 10**12},
        "classes": {"classes": 10**12},
        "classes-possible": {"classes": 10**9},
        "name": {"name": "inception"},
    }
    return {name: _options("extractor", **options) for name, options in made.items()}


def _not_of_their_hash(folder: Path) -> None:
    weights_of(folder).write_bytes(weights_of(folder).read_bytes()[:-1])


def tensor_damage() -> dict[str, Damage]:
    """The weights file damaged behind its hash, and once before it."""
    return {
        "hash": _not_of_their_hash,
        "gone": lambda folder: weights_of(folder).unlink(),
        "empty": _bytes(lambda data: b""),
        "stub": _bytes(lambda data: data[:5]),
        "cut": _bytes(lambda data: data[:-3]),
        "longer": _bytes(lambda data: data + bytes(9)),
        "length-0": _bytes(lambda data: bytes(8) + data[8:]),
        "length-huge": _bytes(lambda data: struct.pack("<Q", 2**63 - 1) + data[8:]),
        "length-max": _bytes(lambda data: struct.pack("<Q", 2**64 - 1) + data[8:]),
        "length-beyond": _bytes(lambda data: struct.pack("<Q", len(data)) + data[8:]),
        "length-less": _bytes(lambda data: struct.pack("<Q", 20) + data[8:]),
        "json": _bytes(lambda data: with_header(b'{"a":', b"")),
        "json-deep": _bytes(lambda data: with_header(b'{"a":' * DEEP + b"}" * DEEP, b"")),
        "json-list": _bytes(lambda data: with_header(b"[]", b"")),
        "json-none": _bytes(lambda data: with_header(b"{}", b"")),
        "json-lines": _bytes(lambda data: with_header(b'{"a\\nb": {"dtype": "F\\n3"}}', b"")),
        "bytes": _bytes(lambda data: with_header(b"\xff\xfe\xfd", b"")),
        "metadata": _header(lambda header, name: {**header, "__metadata__": {"a": ["b"]}}),
        "dtype-unknown": _entry(dtype="F31"),
        "dtype-other": _entry(dtype="I32"),
        "dtype-float8": _entry(dtype="F8_E4M3"),
        "dtype-list": _entry(dtype=["F32"]),
        "shape-huge": _entry(shape=[2**63, 2**63]),
        "shape-negative": _entry(shape=[-1]),
        "shape-flat": _entry(shape=[1]),
        "shape-text": _entry(shape="4"),
        "shape-deep": _entry(shape=[1] * 10_000),
        "offsets-out": _entry(data_offsets=[0, 2**40]),
        "offsets-back": _entry(data_offsets=[64, 0]),
        "offsets-overlap": _header(
            lambda header, name: {n: {**e, "data_offsets": header[name]["data_offsets"]} for n, e in header.items()}
        ),
        "twice": _bytes(lambda data: with_header(b'{"a":{},"a":{}}', b"")),
        "pickle": _bytes(lambda data: b"\x80\x04N."),
        "missing": _tensors(lambda tensors, name: {n: t for n, t in tensors.items() if n != name}),
        "extra": _tensors(lambda tensors, name: {**tensors, "extra\nline": torch.zeros(1)}),
        "extra-long": _tensors(lambda tensors, name: {**tensors, "x" * 100_000: torch.zeros(1)}),
        "extra-many": _tensors(lambda tensors, name: {**tensors, **{f"x{i}": torch.zeros(1) for i in range(3000)}}),
        "none": _tensors(lambda tensors, name: {}),
        "shape": _tensors(lambda tensors, name: {**tensors, name: tensors[name][None]}),
        "size-0": _tensors(lambda tensors, name: {**tensors, name: torch.zeros(0)}),
        "half": _tensors(lambda tensors, name: {**tensors, name: tensors[name].half()}),
        "bool": _tensors(lambda tensors, name: {**tensors, name: tensors[name] > 0}),
        "complex": _tensors(lambda tensors, name: {**tensors, name: tensors[name].to(torch.complex64)}),
        "nan": _tensors(lambda tensors, name: {**tensors, name: tensors[name] * torch.nan}),
        "infinite": _tensors(lambda tensors, name: {**tensors, name: tensors[name] + torch.inf}),
    }


def split_damage() -> dict[str, Damage]:
    """The split beside the weights."""

    def text(change: Callable[[str], str | bytes]) -> Damage:
        def damage(folder: Path) -> None:
            changed = change((folder / "split.json").read_text())
            (folder / "split.json").write_bytes(changed.encode() if isinstance(changed, str) else changed)

        return damage

    def value(**changes: Any) -> Damage:
        return text(lambda old: json.dumps({**json.loads(old), **changes}))

    return {
        "empty": text(lambda old: ""),
        "half": text(lambda old: old[: len(old) // 2]),
        "bytes": text(lambda old: b"\xff" + old.encode()),
        "list": text(lambda old: f"[{old}]"),
        "null": text(lambda old: "null"),
        "deep": text(lambda old: "[" * DEEP),
        "names-none": value(train=None),
        "names-number": value(train=3),
        "names-text": value(train="abc"),
        "names-dict": value(train={"a": 1}),
        "names-numbers": value(train=[1, 2.5, None]),
        "names-deep": value(train=STRANGE["deep"]),
        "names-twice": value(train=["a", "a"]),
        "names-lines": value(train=["a\nb", "a\nb"]),
        "names-many": value(train=[f"t{i}" for i in range(50_000)] * 2),
        "names-surrogate": value(train=["\ud800"]),
        "hash-other": value(sha256="0" * 64),
        "hash-number": value(sha256=5),
        "hash-none": value(sha256=None),
        "hash-list": value(sha256=[]),
        "hash-lines": value(sha256="\n\n\n"),
        "gone": text(lambda old: "{}"),
    }


def support_damage() -> dict[str, Damage]:
    """The images that an adapted model looks at."""

    def images(change: Callable[[torch.Tensor], torch.Tensor]) -> Damage:
        def damage(folder: Path) -> None:
            file = folder / "support.safetensors"
            put(file, save({"support": change(load(file.read_bytes())["support"]).contiguous()}))

        return damage

    def stated(new: Any) -> Damage:
        return _value(lambda config: {**config, "support_sha256": new})

    return {
        "gone": lambda folder: (folder / "support.safetensors").unlink(),
        "empty": lambda folder: put(folder / "support.safetensors", b""),
        "other": lambda folder: put(folder / "support.safetensors", save({"suport": torch.zeros(1)})),
        "hash": stated("0" * 64),
        "hash-number": stated(3),
        "hash-none": stated(None),
        "hash-deep": stated(STRANGE["deep"]),
        "unstated": _value(lambda config: {k: v for k, v in config.items() if k != "support_sha256"}),
        "no-image": images(lambda support: support[:0]),
        "one-image": images(lambda support: support[0]),
        "scalar": images(lambda support: support.sum()),
        "small": images(lambda support: support[..., :4]),
        "colour": images(lambda support: support.expand(-1, 3, -1, -1)),
        "nan": images(lambda support: support * torch.nan),
        "infinite": images(lambda support: support + torch.inf),
        "negative": images(lambda support: support - 1),
        "bytes": images(lambda support: (support * 255).byte()),
        "double": images(lambda support: support.double()),
        "half": images(lambda support: support.half()),
        "float8": images(lambda support: support.to(torch.float8_e4m3fn)),
        "bool": images(lambda support: support > 0.5),
        "complex": images(lambda support: support.to(torch.complex64)),
    }


def export_damage(root: Path) -> dict[str, tuple[str, Damage]]:
    """All damage to the exports that `write_exports` wrote in `root`: the kind and the damage, by name."""
    found: dict[str, tuple[str, Damage]] = {}
    for kind in KINDS:
        of_kind = {"config": config_damage(), "tensors": tensor_damage(), "value": value_damage(root / kind)}
        if kind in ("model", "base"):
            of_kind |= {"option": option_damage(), "split": split_damage()}
        if kind == "mine":
            of_kind |= {"support": support_damage()}
        if kind == "extractor":
            of_kind |= {"option": extractor_option_damage()}
        for group, damages in of_kind.items():
            found |= {f"{kind}-{group}-{name}": (kind, damage) for name, damage in damages.items()}
    return found


def damaged(root: Path, kind: str, damage: Damage, place: Path) -> Path:
    """A copy of one of the exports in `root`, damaged, in the folder `place`, which is emptied."""
    shutil.rmtree(place, ignore_errors=True)
    for each in {kind, "base"} if kind == "mine" else {kind}:
        shutil.copytree(root / each, place / each)
    damage(place / kind)
    return place / kind


# at random


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.sampled_from([v for k, v in STRANGE.items() if k not in ("long", "many", "deep")]) | st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
EDITS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6)
NEAR_START = st.sampled_from([1.0, 0.05])  # of the file, that is edited


def edited(data: bytes, edits: list[tuple[float, int]], part: float) -> bytes:
    """Bytes with some set, each at a fraction of this part of them."""
    changed = bytearray(data)
    for fraction, byte in edits:
        changed[int(fraction * part * len(data))] = byte
    return bytes(changed)


def fuzz_config(sound: Path, place: Path, data: st.DataObject) -> None:
    """Any JSON at any place of a config."""
    kind = data.draw(st.sampled_from(KINDS))
    config = json.loads((sound / kind / "config.json").read_text())
    where, new = data.draw(st.sampled_from(list(places(config)))), data.draw(VALUES)
    assert complaint(read_export, damaged(sound, kind, _put(where, new), place)) is None


def fuzz_weights(sound: Path, place: Path, data: st.DataObject) -> None:
    """Any bytes in a weights file, behind its hash."""
    kind, edits, part = data.draw(st.sampled_from(KINDS)), data.draw(EDITS), data.draw(NEAR_START)
    damage = _bytes(lambda file: edited(file, edits, part))
    assert complaint(read_export, damaged(sound, kind, damage, place)) is None


def fuzz_image(sound: Path, place: Path, data: st.DataObject) -> None:
    """Any bytes in an image."""
    name, whole = data.draw(st.sampled_from(sorted(sound_images().items())))
    place.mkdir(exist_ok=True)
    (place / name).write_bytes(edited(whole, data.draw(EDITS), data.draw(NEAR_START)))
    try:
        assert complaint(read_picture, place / name) is None
    finally:
        (place / name).unlink()


RUN: dict[str, Any] = {
    "run_dir": "run",
    "seed_everything": 0,
    "data": {"task_set": "glyphs", "size": 28, "shots": 2, "queries": 3, "tasks": 4, "invert": False, "root": None},
    "model": {
        "rate": 0.1,
        "clip": 1.0,
        "warmup": 2,
        "generator": {"class_path": "VAE", "init_args": {"latent": 2, "widths": [2, 4], "likelihood": "bernoulli"}},
        "learner": {"class_path": "MAML", "init_args": {"steps": 2, "adapted_params": ["*"]}},
    },
    "trainer": {"max_steps": 3, "accelerator": "cpu", "callbacks": None, "logger": None, "precision": 32},
    "samples": {"tasks": 2},
    "ema": {"decay": 0.9},
    "ckpt_path": None,
}


def fuzz_run(sound: Path, place: Path, data: st.DataObject) -> None:
    """Any YAML at any place of the config of a run, up to where training would begin."""
    where = data.draw(st.sampled_from(list(places(RUN))))
    place.mkdir(exist_ok=True)
    (place / "config.yaml").write_text(yaml.safe_dump(replaced(RUN, where, data.draw(VALUES))))
    code: str | int
    said, problems = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(problems):
        try:
            code = run(["fit", "--config", str(place / "config.yaml"), "--dry-run"])
        except SystemExit as stop:  # the options were printed
            code = stop.code or 0
    assert code in (0, 2)
    if code:
        assert problems.getvalue().startswith("metagen: error: ")
        assert problems.getvalue().count("\n") == 1


def main(root: Path) -> None:
    """Read everything in damaged form."""
    wrong, cases = {}, 0
    write_exports(root / "sound")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, (kind, damage) in export_damage(root / "sound").items():
        wrong[name] = complaint(read_export, damaged(root / "sound", kind, damage, root / "damaged"))
        cases += 1
    for group, make in IMAGES.items():
        for name, data in make().items():
            path = root / "images" / f"{group}-{name}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            wrong[path.name] = complaint(read_picture, path)
            path.unlink()
            cases += 1
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"cases": cases, "megabytes": grown, "wrong": {k: v for k, v in wrong.items() if v}}, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
