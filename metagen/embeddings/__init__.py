"""Embeddings of tasks by a trained model. To add one: a file here and a line below."""

from metagen.embeddings.adapted import AdaptedWeights
from metagen.embeddings.base import Embedding, ModelEmbedding
from metagen.embeddings.filtering import Filtering
from metagen.embeddings.generative import Generative
from metagen.embeddings.gradient import Fisher, Gradient
from metagen.embeddings.prior import EmbeddingGAN
from metagen.embeddings.references import Pixels, Through
from metagen.pca import PCA
from metagen.registry import Registry

embeddings: Registry[ModelEmbedding] = Registry(
    "embedding",
    gradient=Gradient,
    fisher=Fisher,
    adapted=AdaptedWeights,
    filtering=Filtering,
    generative=Generative,
)

__all__ = [
    "PCA",
    "AdaptedWeights",
    "Embedding",
    "EmbeddingGAN",
    "Filtering",
    "Fisher",
    "Generative",
    "Gradient",
    "ModelEmbedding",
    "Pixels",
    "Through",
    "embeddings",
]
