"""Networks that read a support. To add one: a file here and lines below."""

from typing import Literal

from metagen.adaptation.encoders.attention_encoder import AttentionEncoder
from metagen.adaptation.encoders.base import Encoder
from metagen.adaptation.encoders.gradient_encoder import GradientEncoder
from metagen.adaptation.encoders.prototype_encoder import Prototype
from metagen.adaptation.encoders.set_encoder import SetEncoder
from metagen.errors import check_choice
from metagen.generators import Generator

EncoderName = Literal["set", "prototype", "attention", "gradient"]
ENCODERS: dict[EncoderName, type[Encoder]] = {
    "set": SetEncoder,
    "prototype": Prototype,
    "attention": AttentionEncoder,
    "gradient": GradientEncoder,
}


def encoder_for(name: EncoderName, generator: Generator, code: int) -> Encoder:
    """The encoder of that name, with that many numbers in its code.

    Raises:
        MetagenError: there is none.
    """
    check_choice("encoder", name, EncoderName)
    return ENCODERS[name](generator, code)


__all__ = [
    "ENCODERS",
    "AttentionEncoder",
    "Encoder",
    "EncoderName",
    "GradientEncoder",
    "Prototype",
    "SetEncoder",
    "encoder_for",
]
