"""The task set `avatars`: drawn people in colour, each with a face that changes from image to image."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from metagen.errors import MetagenError, check_at_least
from metagen.storage.files import placed
from metagen.tasks.avatar_drawing import SHIFT, STYLES, check_installed, draw, people
from metagen.tasks.base import TaskSet
from metagen.tasks.drawing_cache import Images, cache_file, kept_or_drawn
from metagen.tasks.splits import SPLITS, Split, read_split, split_by_hash

VERSION = 1  # of the drawing code: raise it when the same people come out differently, so that no old cache is read
FEWEST, MOST = 5, 900  # identities of a style: a split needs some; of one style there are few more that differ
SHARE = 10  # there is one identity of the style that is held out whole for so many of another style


class Avatars(TaskSet):
    """Drawn people of ten styles: one task for each, named "lorelei/0012"; needs `pip install 'metagen[avatars]'`.

    A person keeps head, hair, nose, ears and clothes, and their colours; eyes, mouth, eyebrows, glasses and gesture
    change from image to image, and so do background, light, tilt, place and scale, which say nothing of the person.
    Every tenth person, about, is held out for val and another for test; of one style, "open-peeps", test has all.
    They are drawn with the pixels of their size, so that `originals` are `images`; the people of a style in one part of
    the split are drawn together.

    Args:
        size: height and width in pixels, 28 to 128.
        channels: 3 (RGB), or 1 for their grey.
        invert: exchange black and white, and each colour and its opposite.
        identities: people of each style, 5 to 900, and of the one that is held out a tenth of that. With fewer of
            them, those that are left stay as they are.
        drawings: images of each person, 1 or more.
        split_file: a split as `Split.to_json` writes it, instead of that by a hash of the names.
        cache_dir: where drawings are kept, instead of $METAGEN_CACHE or ~/.cache/metagen.

    Raises:
        MetagenError: an option is out of range, the split file cannot be used, or what draws is not installed.
    """

    drawn = True

    def __init__(
        self,
        size: int = 64,
        channels: int = 3,
        invert: bool = False,
        identities: int = 225,
        drawings: int = 20,
        split_file: str | None = None,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__(size, channels, invert)
        if not FEWEST <= identities <= MOST:
            raise MetagenError(f"identities: expected {FEWEST} to {MOST} of each style, got {identities}")
        check_at_least("drawings", drawings, 1)
        self._versions = check_installed()
        self.identities, self.drawings, self.split_file, self.cache_dir = identities, drawings, split_file, cache_dir
        self.split = self._split()
        self._place = {
            name: (part, style, place)
            for part in SPLITS
            for style in STYLES
            for place, name in enumerate(self._names(part, style))
        }
        self._drawn: dict[tuple[str, str], Images] = {}

    def images(self, task: str, which: Sequence[int] | None = None) -> torch.Tensor:
        """Drawings of one person, uint8 [n, C, H, W].

        The first call draws all people of its style and part of the split, or reads those that were kept.

        which: the places of the n drawings, in this order; None for all.

        Raises:
            MetagenError: there is no such task.
        """
        if task not in self._place:
            raise MetagenError(
                f"unknown task {task!r}: none of the {len(self._place)} people of this set; expected a name of its"
                f" split, such as {next(iter(self._place))!r}"
            )
        part, style, place = self._place[task]
        if (part, style) not in self._drawn:
            self._drawn[part, style] = self._kept_or_drawn(part, style)
        images = torch.from_numpy(self._drawn[part, style][place])
        images = images if which is None else images[list(which)]
        images = images if self.channels == 3 else _grey(images)
        return 255 - images if self.invert else images

    def image_count(self, task: str) -> int:
        """The number of drawings of one person, without drawing them."""
        return self.drawings

    def _split(self) -> Split:
        held_out = max(1, self.identities // SHARE)
        counts = {style: held_out if style == SHIFT else self.identities for style in STYLES}
        names = {style: [f"{style}/{number:04d}" for number in range(count)] for style, count in counts.items()}
        if self.split_file is None:
            shift = names.pop(SHIFT)
            split = split_by_hash((name for each in names.values() for name in each), {"val": 0.1, "test": 0.1}, seed=0)
            return Split(split.train, split.val, (*split.test, *shift))
        path, known = placed(self.split_file), {name for each in names.values() for name in each}
        split = read_split(path)
        if missing := [name for part in SPLITS for name in split[part] if name not in known]:
            raise MetagenError(
                f"split file {path}: {len(missing)} of its people are not drawn, the first {missing[0]!r}; raise"
                " --data.identities or take them out"
            )
        return split

    def _names(self, part: str, style: str) -> list[str]:
        return [name for name in self.split[part] if name.startswith(f"{style}/")]

    def _kept_or_drawn(self, part: str, style: str) -> Images:
        names = self._names(part, style)
        numbers = {name: int(name.rpartition("/")[2]) for name in names}
        count = max(numbers.values()) + 1
        key = (VERSION, self._versions, STYLES[style], names, self.size, self.drawings)

        def drawn(name: str) -> Images:
            kept = people(style, count)[numbers[name]]
            return draw(style, numbers[name], kept, range(self.drawings), self.size)

        path = cache_file(self.cache_dir, f"avatars-{style}", ".safetensors", *key)
        return kept_or_drawn(path, names, (self.drawings, 3, self.size, self.size), drawn, f"people of {style}")


def _grey(images: torch.Tensor) -> torch.Tensor:
    """Luma [n, 1, H, W] of RGB images, uint8, by the weights of ITU-R 601, as PIL has it."""
    weights = torch.tensor([19595, 38470, 7471], dtype=torch.int32)
    luma = (images.int() * weights[:, None, None]).sum(1, keepdim=True)
    return ((luma + 0x8000) >> 16).to(torch.uint8)
