"""`metagen sample`: new images of what a model was adapted to."""

from __future__ import annotations

import torch

from metagen.model import load_adapted
from metagen.storage.bundled import bundled
from metagen.storage.files import check_free, fresh_folder, placed
from metagen.storage.images import grid, save_png, save_pngs


def sample(model: str, n: int, out: str, seed: int = 0, overwrite: bool = False, **settings: float | None) -> None:
    """Sample from an adapted model: PNG files, and all of them in grid.png.

    Args:
        model: an adapted model's folder.
        n: how many images.
        out: the folder to write them to.
        seed: image i of a seed is the same at every n.
        overwrite: replace what stands at `out`.
        settings: sampling options in place of the model's own, where not None.
    """
    adapted = load_adapted(model)
    check_free(placed(out), overwrite, [bundled("models", model), adapted.model.path])
    changed = {name: value for name, value in settings.items() if value is not None}
    images, own = adapted.sample(n, seed, **changed), adapted.sampling
    columns = min(n, max(1, round(n**0.5)))
    blank = -n % columns
    cells = torch.cat([images, torch.ones(blank, *images.shape[1:])]).unflatten(0, (-1, columns))
    with fresh_folder(placed(out), overwrite) as folder:
        save_pngs(images, folder)
        save_png(grid(cells), folder / "grid.png")
    notes = [f"{name} {value:g} (its own: {own[name]:g})" for name, value in changed.items() if value != own[name]]
    print(f"wrote {n} images and grid.png to {out}" + "".join(f"; {each}" for each in notes))
    print(f"look at {placed(out) / 'grid.png'}: all of them in one picture")
