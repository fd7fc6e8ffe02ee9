"""Extractors: the named networks that metrics look through. To add one: a file here and a line below."""

from metagen.metrics.extractors.base import Extractor
from metagen.metrics.extractors.embedding import Embedding
from metagen.registry import Registry

extractors: Registry[Extractor] = Registry("extractor", embedding=Embedding)

__all__ = ["Embedding", "Extractor", "extractors"]
