"""Principal components (Hotelling 1933, doi:10.1037/h0071325)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from metagen.errors import MetagenError

FLAT = 1e-6  # directions that vary by less than this share of the first one, or of the mean, are rounding


@dataclass(frozen=True)
class PCA:
    """The directions in which rows vary most.

    Attributes:
        mean: of the rows [P].
        basis: orthonormal, the first direction first, [d, P].
        scale: the standard deviation of the rows along each, [d].
    """

    mean: torch.Tensor
    basis: torch.Tensor
    scale: torch.Tensor

    @classmethod
    def fitted(cls, rows: torch.Tensor, dims: int) -> PCA:
        """Of rows [M, P]: the first `dims` directions, or as many as vary.

        Raises:
            MetagenError: fewer than two rows, rows that are not finite, or none that differ.
        """
        if len(rows) < 2 or not rows.isfinite().all():
            rows_given = "some that are not finite" if len(rows) > 1 else f"{len(rows)}"
            raise MetagenError(f"principal components: expected 2 or more tasks of finite numbers, got {rows_given}")
        kind = rows.dtype
        rows = rows.to(torch.promote_types(kind, torch.float32))  # in less there is no decomposition
        mean = rows.mean(0)
        _, lengths, basis = torch.linalg.svd(rows - mean, full_matrices=False)
        scale = lengths / (len(rows) - 1) ** 0.5
        kept = int((scale > FLAT * torch.maximum(scale[0], mean.norm())).sum())
        if not kept:
            raise MetagenError(
                f"principal components: {len(rows)} tasks are all alike, so nothing tells them apart; choose another "
                "way, or a model whose last player's loss depends on the images"
            )
        return cls(*(each.to(kind) for each in (mean, basis[: min(dims, kept)], scale[: min(dims, kept)])))

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Coordinates [T, d] of rows [T, P]."""
        return (rows - self.mean) @ self.basis.mT

    def standardised(self, rows: torch.Tensor) -> torch.Tensor:
        """The same in units of their standard deviation."""
        return self(rows) / self.scale
