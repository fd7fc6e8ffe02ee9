"""Scores of an embedding: whether neighbours in it belong together."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def nearest(embedded: torch.Tensor, n: int) -> torch.Tensor:
    """The n nearest other tasks of each of [T, d], the nearest first: [T, n]."""
    distance = torch.cdist(embedded.double(), embedded.double())
    return distance.fill_diagonal_(torch.inf).topk(n, largest=False).indices


def same_group(groups: Sequence[str]) -> torch.Tensor:
    """Whether two different tasks share a group: [T, T]."""
    numbers = torch.tensor([sorted(set(groups)).index(group) for group in groups])
    return (numbers[:, None] == numbers).fill_diagonal_(False)


def group_precision(embedded: torch.Tensor, groups: Sequence[str], n: int) -> torch.Tensor:
    """Share of each task's n nearest other tasks that are of its group, in per cent: [T, d] -> [T]."""
    return 100 * same_group(groups).gather(1, nearest(embedded, n)).double().mean(1)


def group_chance(groups: Sequence[str]) -> torch.Tensor:
    """The same of n random other tasks, exactly: (size of its group - 1) / (T - 1), in per cent, [T]."""
    return 100 * same_group(groups).double().sum(1) / (len(groups) - 1)


def identity(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """100 for each task whose other half is the nearest of all other halves, else 0: [T, d] twice -> [T].

    By chance 100 / T.
    """
    closest = torch.cdist(first.double(), second.double()).argmin(1)
    return 100 * (closest == torch.arange(len(first), device=closest.device)).double()
