"""Base generators: what makes the images. To add one: a file here and a line below."""

from metagen.generators.base import Context, Generator, Noise, Weights, call
from metagen.generators.redraw import Redraw
from metagen.generators.search_vae import SearchVAE
from metagen.generators.vae import VAE
from metagen.registry import Registry

generators: Registry[Generator] = Registry("generator", vae=VAE, redraw=Redraw, search_vae=SearchVAE)

__all__ = ["VAE", "Context", "Generator", "Noise", "Redraw", "SearchVAE", "Weights", "call", "generators"]
