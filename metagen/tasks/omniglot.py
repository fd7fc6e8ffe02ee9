"""The task set `omniglot`: 1,623 characters of 50 alphabets, each drawn by 20 people (Lake 2015, Science 350)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch

from metagen.core.seeding import numpy_rng
from metagen.errors import MetagenError, check_choice
from metagen.storage.files import placed
from metagen.storage.images import image_files, read_folder
from metagen.tasks.base import TaskSet
from metagen.tasks.seen import prints_of
from metagen.tasks.splits import SPLITS, Split, read_split

log = logging.getLogger(__name__)

# What the whole of it holds: characters by alphabet, in the two folders of its publishers.
BACKGROUND = {
    "Alphabet_of_the_Magi": 20,
    "Anglo-Saxon_Futhorc": 29,
    "Arcadian": 26,
    "Armenian": 41,
    "Asomtavruli_(Georgian)": 40,
    "Balinese": 24,
    "Bengali": 46,
    "Blackfoot_(Canadian_Aboriginal_Syllabics)": 14,
    "Braille": 26,
    "Burmese_(Myanmar)": 34,
    "Cyrillic": 33,
    "Early_Aramaic": 22,
    "Futurama": 26,
    "Grantha": 43,
    "Greek": 24,
    "Gujarati": 48,
    "Hebrew": 22,
    "Inuktitut_(Canadian_Aboriginal_Syllabics)": 16,
    "Japanese_(hiragana)": 52,
    "Japanese_(katakana)": 47,
    "Korean": 40,
    "Latin": 26,
    "Malay_(Jawi_-_Arabic)": 40,
    "Mkhedruli_(Georgian)": 41,
    "N_Ko": 33,
    "Ojibwe_(Canadian_Aboriginal_Syllabics)": 14,
    "Sanskrit": 42,
    "Syriac_(Estrangelo)": 23,
    "Tagalog": 17,
    "Tifinagh": 55,
}
EVALUATION = {
    "Angelic": 20,
    "Atemayar_Qelisayer": 26,
    "Atlantean": 26,
    "Aurek-Besh": 26,
    "Avesta": 26,
    "Ge_ez": 26,
    "Glagolitic": 45,
    "Gurmukhi": 45,
    "Kannada": 41,
    "Keble": 26,
    "Malayalam": 47,
    "Manipuri": 40,
    "Mongolian": 30,
    "Old_Church_Slavonic_(Cyrillic)": 45,
    "Oriya": 46,
    "Sylheti": 28,
    "Syriac_(Serto)": 23,
    "Tengwar": 25,
    "Tibetan": 42,
    "ULOG": 26,
}
FOLDERS = {"images_background": BACKGROUND, "images_evaluation": EVALUATION}
VAL_ALPHABETS = tuple(sorted(BACKGROUND)[5::6])  # every sixth of the background, 158 characters
OmniglotPartition = Literal["canonical", "random1200"]
RANDOM_TRAIN, RANDOM_VAL = 1200, 100  # of the first, the second is set apart from training
SIDE = 105  # pixels of a drawing
INK = 0.3  # at 28 pixels the thinner lines cover about a third of a pixel


class Omniglot(TaskSet):
    """Each character is a task of 20 drawings, named "Alphabet/character01"; ink is 1 on 0.

    `canonical`: train and val are the background alphabets (val: every sixth of them), test the evaluation alphabets.
    `random1200`: 1,200 characters drawn from all, 100 of them val, and the other 423 test. What is not under `root`
    is left out of either, with a warning.

    Args:
        root: the folder with images_background and images_evaluation (or with the omniglot-py that torchvision makes).
        size: height and width in pixels, 28 to 128; drawings come in 105.
        channels: 1 (grey) or 3 (RGB).
        partition: "canonical" or "random1200".
        binarise: make every pixel 0 or 1 (ink where a pixel is at least 0.3 covered).
        download: fetch it through torchvision into `root` if it is not there.
        split_file: a split as `Split.to_json` writes it, in place of the partition.
        seed: of `random1200`.
        invert: exchange black and white.

    Raises:
        MetagenError: nothing is there, an option is refused, or a part of the split is empty.
    """

    def __init__(
        self,
        root: str,
        size: int = 28,
        channels: int = 1,
        partition: OmniglotPartition = "canonical",
        binarise: bool = False,
        download: bool = False,
        split_file: str | None = None,
        seed: int = 0,
        invert: bool = False,
    ) -> None:
        super().__init__(size, channels, invert)
        check_choice("partition", partition, OmniglotPartition)
        self.root, self.partition, self.binarise, self.download = root, partition, binarise, download
        self.split_file, self.seed = split_file, seed
        self._folders = _characters(placed(root), download)
        self._images: dict[str, torch.Tensor] = {}
        self._originals: dict[str, torch.Tensor] = {}
        whole = read_split(placed(split_file)) if split_file else whole_split(partition, seed)
        self.missing = tuple(name for part in SPLITS for name in whole[part] if name not in self._folders)
        if self.missing:
            log.warning("%s", self._missing_summary(whole))
        self.split = Split(*(tuple(name for name in whole[part] if name in self._folders) for part in SPLITS))
        empty = [part for part in SPLITS if not self.split[part]]
        if empty:
            raise MetagenError(f"{root}: no character of the split {' and '.join(empty)} is there; add its alphabets")

    def images(self, task: str, which: Sequence[int] | None = None) -> torch.Tensor:
        """The drawings of one character in the order of their file names, uint8 [n, C, H, W].

        which: the places of some of them, in this order; None for all.

        Raises:
            MetagenError: there is no such character, or a drawing cannot be read.
        """
        if task not in self._images:
            self._images[task] = self.finished(self._read(task, self.size))
        return self._images[task] if which is None else self._images[task][list(which)]

    def originals(self, task: str, which: Sequence[int] | None = None) -> torch.Tensor:
        """The drawings as they come, uint8 [n, C, 105, 105]; otherwise as `images`, but never binarised."""
        if task not in self._originals:
            self._originals[task] = self._read(task, SIDE)
        return self._originals[task] if which is None else self._originals[task][list(which)]

    def prints(self, task: str) -> tuple[str, ...]:
        """Hashes of the drawings as they come, which are not kept for that."""
        return prints_of(self._read(task, SIDE))

    def finished(self, images: torch.Tensor) -> torch.Tensor:
        """Drawings [..., C, H, W], uint8, binarised where that is asked for."""
        if not self.binarise:
            return images
        ink = 255 - images if self.invert else images
        ink = (ink >= round(255 * INK)).to(torch.uint8) * 255
        return 255 - ink if self.invert else ink

    def _read(self, task: str, size: int) -> torch.Tensor:
        if task not in self._folders:
            raise MetagenError(f"{self.root}: no character {task!r}; expected a name such as 'Greek/character01'")
        paper = read_folder(self._folders[task], size, self.channels)
        return paper if self.invert else 255 - paper

    def image_count(self, task: str) -> int:
        """The number of drawings of one character."""
        return len(image_files(self._folders[task]))

    def _missing_summary(self, whole: Split) -> str:
        alphabets = sorted({name.partition("/")[0] for name in self.missing})
        total = sum(len(whole[part]) for part in SPLITS)
        named = ", ".join(alphabets[:8]) + (f" and {len(alphabets) - 8} more" if len(alphabets) > 8 else "")
        return f"{self.root}: {len(self.missing)} of {total} characters are missing, of {named}"


def whole_split(partition: OmniglotPartition, seed: int = 0) -> Split:
    """The split of all 1,623 characters, whatever of them is there."""
    if partition == "canonical":
        train = {name: n for name, n in BACKGROUND.items() if name not in VAL_ALPHABETS}
        val = {name: BACKGROUND[name] for name in VAL_ALPHABETS}
        return Split(*(tuple(_names(part)) for part in (train, val, EVALUATION)))
    names = _names({**BACKGROUND, **EVALUATION})
    order = [names[i] for i in numpy_rng(seed, "random1200").permutation(len(names))]
    val_from = RANDOM_TRAIN - RANDOM_VAL
    parts = (order[:val_from], order[val_from:RANDOM_TRAIN], order[RANDOM_TRAIN:])
    return Split(*(tuple(sorted(part)) for part in parts))


def _names(alphabets: Mapping[str, int]) -> list[str]:
    return [f"{name}/character{i:02d}" for name in sorted(alphabets) for i in range(1, alphabets[name] + 1)]


def _characters(root: Path, download: bool) -> dict[str, Path]:
    """The folder of every character that is there, by its task name."""
    tree = _tree(root)
    if download and not (tree and all((tree / folder).is_dir() for folder in FOLDERS)):
        _download(root)
        tree = _tree(root)
    if tree is None:
        raise MetagenError(
            f"{root}: expected {' and '.join(FOLDERS)} in it; name the folder above them, or fetch them with "
            "--data.download true"
        )
    folders = {}
    for folder, alphabets in FOLDERS.items():
        for name in _names(alphabets):
            if (tree / folder / name).is_dir():
                folders[name] = tree / folder / name
    return folders


def _tree(root: Path) -> Path | None:
    places = (root, root / "omniglot-py", root / "omniglot")
    return next((place for place in places if any((place / folder).is_dir() for folder in FOLDERS)), None)


def _download(root: Path) -> None:
    from torchvision.datasets import Omniglot as Downloads  # checks the hash of what it fetches

    try:
        for background in (True, False):
            Downloads(str(root), background=background, download=True)
    except (OSError, RuntimeError) as error:
        raise MetagenError(
            f"{root}: could not download Omniglot ({error}); unpack images_background.zip and images_evaluation.zip of "
            "https://github.com/brendenlake/omniglot there by hand"
        ) from error
