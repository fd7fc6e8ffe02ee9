"""Networks that read a support. To add one: a file here and a line below."""

from metagen.adaptation.encoders.attention_encoder import AttentionEncoder
from metagen.adaptation.encoders.base import Encoder
from metagen.adaptation.encoders.gradient_encoder import GradientEncoder
from metagen.adaptation.encoders.prototype_encoder import Prototype
from metagen.adaptation.encoders.set_encoder import SetEncoder
from metagen.errors import unknown
from metagen.generators import Generator

ENCODERS: dict[str, type[Encoder]] = {
    "set": SetEncoder,
    "prototype": Prototype,
    "attention": AttentionEncoder,
    "gradient": GradientEncoder,
}


def encoder_for(name: str, generator: Generator, code: int) -> Encoder:
    """The encoder of that name, with that many numbers in its code.

    Raises:
        MetagenError: there is none.
    """
    if name not in ENCODERS:
        raise unknown("encoder", name, ENCODERS)
    return ENCODERS[name](generator, code)


__all__ = [
    "ENCODERS",
    "AttentionEncoder",
    "Encoder",
    "GradientEncoder",
    "Prototype",
    "SetEncoder",
    "encoder_for",
]
