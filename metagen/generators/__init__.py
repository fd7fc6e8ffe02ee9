"""Base generators, which make the images. To add one: a file here and a line below."""

from metagen.core.registry import Registry
from metagen.generators.base import Context, Generator, Noise
from metagen.generators.consistency import consistency_penalty, distance_consistency
from metagen.generators.gans.base import AdversarialGenerator
from metagen.generators.gans.gan import GAN
from metagen.generators.gans.redraw_gan import RedrawGAN
from metagen.generators.gans.vae_gan import VAEGAN
from metagen.generators.generator_options import PerPlayer, by_player, with_sampling
from metagen.generators.redraw import Redraw
from metagen.generators.search_vae import SearchVAE
from metagen.generators.set_vae import SetVAE
from metagen.generators.tokens.token_vae import TokenVAE
from metagen.generators.tokens.tokenizer import Tokenizer
from metagen.generators.vae import VAE

generators: Registry[Generator] = Registry(
    "generator",
    vae=VAE,
    redraw=Redraw,
    search_vae=SearchVAE,
    set_vae=SetVAE,
    tokenizer=Tokenizer,
    token_vae=TokenVAE,
    gan=GAN,
    vae_gan=VAEGAN,
    redraw_gan=RedrawGAN,
)

__all__ = [
    "GAN",
    "VAE",
    "VAEGAN",
    "AdversarialGenerator",
    "Context",
    "Generator",
    "Noise",
    "PerPlayer",
    "Redraw",
    "RedrawGAN",
    "SearchVAE",
    "SetVAE",
    "TokenVAE",
    "Tokenizer",
    "by_player",
    "consistency_penalty",
    "distance_consistency",
    "generators",
    "with_sampling",
]
