"""The measurements of held-out tasks: fields in memory, and named tensors where they are kept or gathered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

LAYOUT = 2  # of the tensors' names; another number for other names, so that kept batches of others are refused


@dataclass(frozen=True)
class TaskResults:
    """Measurements of T tasks; every tensor has one row a task.

    Attributes:
        checksums: of the support and query images of each task, [T].
        losses: the query loss by row, [T] each.
        seconds: of adapting and sampling, by row, [T] each.
        diverged: whether some sample is not finite, by row, [T] each; such samples count as grey.
        curve: the criterion by the number of inner steps, [T] each.
        features: by extractor, then by row or set of real images, [T, n, d] each.
    """

    checksums: torch.Tensor
    losses: dict[str, torch.Tensor] = field(default_factory=dict)
    seconds: dict[str, torch.Tensor] = field(default_factory=dict)
    diverged: dict[str, torch.Tensor] = field(default_factory=dict)
    curve: dict[int, torch.Tensor] = field(default_factory=dict)
    features: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)


def to_tensors(results: TaskResults) -> dict[str, torch.Tensor]:
    """Results as tensors on the CPU: "checksums", "FIELD/KEY", and "features/EXTRACTOR/ROW"."""
    tensors = {"checksums": results.checksums}
    for name in ("losses", "seconds", "diverged", "curve"):
        tensors |= {f"{name}/{key}": values for key, values in getattr(results, name).items()}
    for extractor, rows in results.features.items():
        tensors |= {f"features/{extractor}/{row}": values for row, values in rows.items()}
    return {name: values.cpu() for name, values in tensors.items()}


def from_tensors(tensors: Mapping[str, torch.Tensor]) -> TaskResults:
    """Results from the tensors of `to_tensors`; no extractor has a slash in its name, which is that of a folder."""
    results = TaskResults(tensors["checksums"])
    for name, values in tensors.items():
        part, _, key = name.partition("/")
        if part == "curve":
            results.curve[int(key)] = values
        elif part == "features":
            extractor, _, row = key.partition("/")
            results.features.setdefault(extractor, {})[row] = values
        elif part != "checksums":
            getattr(results, part)[key] = values
    return results
