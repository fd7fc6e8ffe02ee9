"""Extractors: the named networks whose features metrics compare. To add one: a file here and a line below."""

from metagen.core.registry import Registry
from metagen.metrics.extractors.base import Extractor
from metagen.metrics.extractors.embedding import Embedding
from metagen.metrics.extractors.inception import Inception
from metagen.metrics.extractors.lpips import LPIPS
from metagen.metrics.extractors.scripted import Scripted

# Those that `save_extractor` writes; the others come as files of their own kind.
extractors: Registry[Extractor] = Registry("extractor", embedding=Embedding)

__all__ = ["LPIPS", "Embedding", "Extractor", "Inception", "Scripted", "extractors"]
