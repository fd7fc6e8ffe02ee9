"""Presets of `GAN`: the networks, the losses and the penalty of a paper."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from metagen.errors import MetagenError, check_choice
from metagen.generators.gans.adversarial import GameName, PenaltyName
from metagen.generators.gans.critic_augmentation import AugmentationName
from metagen.generators.gans.gan_networks import CriticNormName, NetworkName
from metagen.generators.networks import NormName

log = logging.getLogger(__name__)

PresetName = Literal["r3", "sngan", "wgan_gp"]


@dataclass(frozen=True)
class Preset:
    """Values of the options of `GAN` that are not given."""

    network: NetworkName
    depth: int
    norm: NormName
    critic_norm: CriticNormName
    game: GameName
    penalty: PenaltyName
    augmentation: tuple[AugmentationName, ...] = ()


PRESETS: dict[PresetName, Preset] = {
    # R3GAN (Huang 2024, arXiv:2501.05441): a stable equilibrium. Smaller than its model, and with SiLU, whose second
    # derivatives a meta-gradient needs, in place of LeakyReLU.
    "r3": Preset("residual", 2, "none", "none", "relativistic", "r1r2", ("translation", "cutout")),
    # SNGAN (Miyato 2018, arXiv:1802.05957): each layer of the critic has slope 1 at most.
    "sngan": Preset("dcgan", 1, "group", "spectral", "hinge", "none"),
    # WGAN-GP (Gulrajani 2017, arXiv:1704.00028); FIGR meta-trains it (Clouatre 2019, arXiv:1901.02199).
    "wgan_gp": Preset("dcgan", 1, "group", "none", "wasserstein", "gradient_penalty"),
}

# Usual weights: gamma of images in [0, 1], a quarter of that of images in [-1, 1]; and lambda.
PENALTY_WEIGHTS: dict[PenaltyName, float] = {"r1r2": 0.02, "gradient_penalty": 10.0, "none": 0.0}


def with_options(name: PresetName, options: Mapping[str, Any]) -> Preset:
    """Replace values of a preset by the options that are given.

    Args:
        name: of the preset.
        options: by the names of the fields of `Preset`; None where the preset decides.

    Raises:
        MetagenError: there is no such preset.
    """
    check_choice("preset", name, PresetName)
    chosen = replace(PRESETS[name], **{option: value for option, value in options.items() if value is not None})
    if chosen.penalty == "gradient_penalty" and chosen.critic_norm == "spectral":
        log.warning(
            "critic_norm: under spectral no slope reaches the 1 that gradient_penalty asks for; take none or group"
        )
    return chosen


def penalty_weight_of(penalty: PenaltyName, weight: float | None) -> float:
    """Return the weight of a penalty: its usual one, if None is given.

    Raises:
        MetagenError: there is no such penalty, or there is a weight and no penalty.
    """
    check_choice("penalty", penalty, PenaltyName)
    if penalty == "none" and weight:
        raise MetagenError(f"penalty_weight: there is no penalty to weigh, got {weight}; leave it out")
    return PENALTY_WEIGHTS[penalty] if weight is None else weight
