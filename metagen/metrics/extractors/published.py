"""Weights that others publish: a file that the user names, or fetched into metagen's cache; checked either way."""

from __future__ import annotations

import hashlib
import io
import sys
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import torch

from metagen.errors import MetagenError
from metagen.storage.files import cache_folder, placed, write_atomically

TIMEOUT = 60  # seconds without an answer


class Published(NamedTuple):
    """A file of weights.

    Attributes:
        name: what nothing may be called without them.
        url: where it is to be had.
        sha256: of the file.
        megabytes: its size.
    """

    name: str
    url: str
    sha256: str
    megabytes: int

    def tensors(self, source: str, hint: str | None = None) -> dict[str, torch.Tensor]:
        """The weights: `source` is the file, or "download"; `hint` says how to mend another file than the published.

        Raises:
            MetagenError: it is missing, cannot be fetched, or is not the one published.
        """
        data = self._downloaded() if source == "download" else self._read(placed(source), hint)
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)

    def _read(self, path: Path, hint: str | None = None) -> bytes:
        hint = hint or f"name the published {Path(self.url).name}, or 'download' once this one is out of the way"
        try:
            return self._checked(path.read_bytes(), str(path), hint)
        except OSError as error:
            raise MetagenError(f"{path}: cannot be read ({error.strerror}); {hint}") from error

    def _downloaded(self) -> bytes:
        place = cache_folder() / "extractors" / Path(self.url).name
        if place.is_file():
            return self._read(place)
        print(f"fetching {self.url} ({self.megabytes} MB) into {place.parent}", file=sys.stderr)
        hint = "fetch it elsewhere and name the file"
        try:
            with urlopen(self.url, timeout=TIMEOUT) as answer:  # noqa: S310, the address is a constant
                data = self._checked(answer.read(), self.url, hint)
        except (OSError, HTTPException) as error:
            reason = " ".join(str(error).split())
            raise MetagenError(f"{self.url}: cannot be fetched ({reason}); {hint}") from error
        write_atomically(place, data)
        return data

    def _checked(self, data: bytes, where: str, hint: str) -> bytes:
        digest = hashlib.sha256(data).hexdigest()
        if digest != self.sha256:
            raise MetagenError(
                f"{where}: expected the published weights with SHA-256 {self.sha256}, got {len(data)} bytes with "
                f"{digest}; without these weights nothing is called {self.name}: {hint}"
            )
        return data
