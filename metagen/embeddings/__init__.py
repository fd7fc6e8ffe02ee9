"""Embeddings of tasks by a trained model. To add one: a file here and a line below."""

from metagen.core.pca import PCA
from metagen.core.registry import Registry
from metagen.embeddings.adapted_weights import AdaptedWeights
from metagen.embeddings.base import Embedding, ModelEmbedding
from metagen.embeddings.filtering import Filtering
from metagen.embeddings.generative import Generative
from metagen.embeddings.gradients import Fisher, Gradient
from metagen.embeddings.prior import EmbeddingGAN
from metagen.embeddings.references import Pixels, Through

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
