"""Choose the letters of the task set `glyphs` and write them to metagen/tasks/glyphs.json.

    python experiments/glyph_split.py [--out FILE] [--letters N]

Run once by hand; the file it writes is the fixed split. A letter that looks like one chosen before is left out,
and what is held out may not even remotely look like a train letter, nor test like val.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from experiments.runs import parser
from metagen.tasks.glyphs import FIXED_SPLIT, Faces, Gallery, apart, choose, looks, matplotlib_fonts, script_of, task_of
from metagen.tasks.splits import SPLITS, Split

# The scripts of each split, in the order in which letters are chosen: whole scripts are held out.
SCRIPTS = {
    "train": ("LATIN", "GREEK", "CYRILLIC", "CANADIAN", "OGHAM", "OLD ITALIC", "COPTIC", "LISU"),
    "val": ("ARABIC", "ARMENIAN"),
    "test": ("GEORGIAN", "HEBREW", "LAO", "NKO", "TIFINAGH"),
}
# Held-out letters that a reader takes for a train letter although their strokes stand elsewhere (seen by eye).
READ_ALIKE = (
    *("ARMENIAN/U+0543", "HEBREW/U+05E5", "NKO/U+07D3", "NKO/U+07D4", "NKO/U+07D6"),
    *("ARABIC/U+0621", "ARABIC/U+0631", "ARABIC/U+0632", "ARABIC/U+0639", "ARABIC/U+066E"),
    *("GEORGIAN/U+10AA", "GEORGIAN/U+10AF", "GEORGIAN/U+10DE", "GEORGIAN/U+2D01", "GEORGIAN/U+2D02"),
    *("GEORGIAN/U+2D17", "GEORGIAN/U+2D18", "GEORGIAN/U+2D1D", "GEORGIAN/U+2D23", "GEORGIAN/U+2D24"),
    *("TIFINAGH/U+2D3C", "TIFINAGH/U+2D50", "TIFINAGH/U+2D62"),
)


def of_script(script: str, faces: Faces) -> list[str]:
    """The letters of a script that some font has, in order."""
    return [char for char in sorted(faces.by_letter) if script_of(char) == script]


def main(argv: Sequence[str] | None = None) -> None:
    """Write the split and print how many letters of each script it holds."""
    arguments = parser(__doc__)
    arguments.add_argument(
        "--out", type=Path, default=FIXED_SPLIT, help="the file to write; by default the fixed split"
    )
    arguments.add_argument("--letters", type=int, help="only so many letters of each script, the first; all by default")
    options = arguments.parse_args(argv)
    faces = Faces(matplotlib_fonts())
    gallery, parts = Gallery(), {}
    for part, scripts in SCRIPTS.items():
        letters = [char for script in scripts for char in of_script(script, faces)[: options.letters]]
        letters = [char for char in letters if task_of(char) not in READ_ALIKE]
        likenesses = looks(letters if part == "train" else apart(letters, faces, gallery), faces)
        chosen = choose(likenesses)
        for char in chosen:
            gallery.add(likenesses[char])
        parts[part] = tuple(task_of(char) for char in chosen)
    split = Split(**parts)
    options.out.write_text(split.to_json(), encoding="utf-8")
    for part in SPLITS:
        print(part, len(split[part]), dict(Counter(name.split("/")[0] for name in split[part])))


if __name__ == "__main__":
    main()
