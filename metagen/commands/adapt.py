"""`metagen adapt`: a generator of one new thing, from a folder of images of it."""

from __future__ import annotations

import time
from typing import Any, Literal

from metagen.adaptation import EmitsRule
from metagen.model import Steps, load_base
from metagen.report.next_steps import counted, next_steps, sibling
from metagen.storage.files import check_free, placed
from metagen.storage.images import conversions


def adapt(
    model: str,
    support: str,
    out: str,
    steps: Steps = None,
    seed: int = 0,
    invert: bool | Literal["auto"] = "auto",
    prepare: Literal["auto", "ink", "photo", "faces"] | None = None,
    standalone: bool = False,
    overwrite: bool = False,
) -> None:
    """Adapt a model to a folder of images; if it writes a rule for them, it is shown, and kept beside the model.

    Args:
        model: an exported model: a folder, or the name of one bundled with metagen.
        support: a folder of images of one new thing.
        out: the folder to write the adapted model to.
        steps: inner steps; the model's own number if not given; "auto" to choose it by support images left out.
        seed: of the noise in the inner loop.
        invert: exchange black and white in the images first; "auto" to do so where their ink stands on another ground
            than the model was trained on, with a warning.
        prepare: prepare the images first as metagen prepare does, which this is the kind of; as they are if not given.
        standalone: put a copy of the whole base model inside.
        overwrite: replace what stands at `out`.
    """
    base = load_base(model)
    check_free(placed(out), overwrite, [support, base.path])
    started = time.perf_counter()
    if prepare:
        from metagen.preparation import prepared  # slow to import, and not for every adaptation

        made = prepared.prepare(support, kind=prepare)
        print("\n".join([f"prepared {made.summary}", *made.told]))
        images = base.read(made.support, invert)
    else:
        images = base.read(support, invert)
        for conversion in conversions(placed(support), images.shape[-1], images.shape[1]):
            print(conversion)
    adapted = base.adapt(images, steps, seed, invert=False)
    seconds = time.perf_counter() - started
    adapted.save(out, standalone, overwrite)
    if steps == "auto":
        print(_chosen(adapted.info))
    if isinstance(base.learner, EmitsRule):
        rule = base.rule(images, invert=False)
        rule.save(placed(out))
        print(rule.table())
    given, taken = counted(len(images), "image"), counted(adapted.info["steps"], "step") or "no step"
    print(f"adapted to {given} in {taken}, {seconds:.2f} s; wrote {out}")
    print(next_steps(["sample", "--model", out, "--n", 64, "--out", sibling(out, "samples")]))


def _chosen(info: dict[str, Any]) -> str:
    there, before, ratio = info["held_out_loss"], info["held_out_loss_at_0"], info["copy_ratio"]
    return (
        f"chose {info['steps']} steps: by left-out images {there:.2f} there and {before:.2f} at 0 steps, less being "
        f"better; copy ratio {ratio:.2f}"
    )
