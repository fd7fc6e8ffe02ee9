"""metagen: image generators that learn to learn."""

from metagen.errors import MetagenError
from metagen.model import AdaptedModel, AdaptedModels, Model, load

__version__ = "0.1.0"

__all__ = ["AdaptedModel", "AdaptedModels", "MetagenError", "Model", "load"]
