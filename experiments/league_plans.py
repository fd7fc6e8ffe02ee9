"""Plans of the learners in the league: the grid of each search, and the options that all its cells share."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from metagen.generators import generators
from metagen.storage.earlier import generator_config


def cells(**options: tuple[Any, ...]) -> tuple[dict[str, Any], ...]:
    """Every combination of options."""
    return tuple(dict(zip(options, values, strict=True)) for values in itertools.product(*options.values()))


Grid = tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Kind:
    """The grids of one kind of generator: what moves, and how fast."""

    name: str
    descent: Grid  # few steps of plain descent
    tuning: Grid  # many steps of Adam, from joint training
    head: Grid  # steps of little more than the last layer
    deltas: Grid  # low-rank
    curvature: Grid  # steps by learned matrices, which have to be small
    optimiser: Grid  # learned, whose weights have to be few
    lstm: Grid  # likewise
    implicit: Grid  # steps until near a minimum; a rate has to stay below 2 / (curvature + proximal)
    embedded: Grid  # steps whose start and rates an embedding of the support sets
    conditional: Grid  # no step at all, each encoder of the support
    classical: Grid  # an embedding by gradients, of few numbers or more
    memory: Grid  # of other tasks, and how it is written
    code: Grid  # steps in a code of the task, and after it
    written: Grid  # low-rank changes that a network writes, and no step
    near: Grid  # fine-tuning that is held near its start
    anchored: Grid  # the same, by Fisher information, which is small
    far: Grid  # steps of Adam on all weights, towards whose end the start moves
    frozen: Grid = ()  # the low layers of a critic stay, or those that read a support; none where there is neither


ALL, STEM, DECODER = ("*",), ("decoder.stem.bias",), ("decoder.*",)
FAR = cells(rate=(3e-4, 1e-3, 3e-3), steps=(3, 8))
ENCODERS, WRITES = ("set", "prototype", "attention"), ("least_used", "gated")
VAE = Kind(
    "VAE",
    descent=(
        *cells(adapted_params=(STEM,), rate=(0.1, 0.3, 1.0)),
        *cells(adapted_params=(DECODER,), rate=(3e-4, 1e-3, 3e-3)),
    ),
    tuning=(
        *cells(adapted_params=(ALL,), rate=(1e-4, 3e-4, 1e-3, 3e-3), test_steps=(20, 50)),
        *cells(adapted_params=(STEM,), rate=(0.03, 0.1, 0.3), test_steps=(20, 50)),
    ),
    head=cells(adapted_params=(("head",), ("last_block",)), rate=(3e-4, 1e-3, 3e-3)),
    deltas=cells(layers=(DECODER,), rank=(1, 4), rate=(3e-4, 1e-3, 3e-3)),
    curvature=(
        *cells(adapted_params=(("last_block",),), rate=(3e-4, 1e-3, 3e-3)),
        *cells(adapted_params=(("decoder.stem.*",),), rate=(0.03, 0.1, 0.3)),
    ),
    optimiser=cells(adapted_params=(STEM,), rate=(0.1, 0.2, 0.3), decay=(0.0, 1.0)),
    lstm=cells(adapted_params=(STEM,), rate=(0.1, 0.3, 0.9), hidden=(8, 20)),
    implicit=cells(steps=(16,), adapted_params=(STEM,), rate=(0.01, 0.03), proximal=(2.0, 5.0, 10.0)),
    embedded=(
        *cells(adapted_params=(STEM,), rate=(0.03, 0.1, 0.3)),
        *cells(adapted_params=(DECODER,), rate=(3e-4, 1e-3, 3e-3)),
    ),
    conditional=cells(encoder=ENCODERS, adapted_params=(STEM, DECODER)),
    classical=cells(adapted_params=(STEM,), rate=(0.1, 0.3), code=(8, 16, 32)),
    memory=cells(adapted_params=(STEM,), rate=(0.1, 0.3, 1.0), writing=WRITES),
    code=cells(adapted_params=(STEM,), rate=(0.1, 0.3), code_rate=(0.3, 1.0, 3.0)),
    written=cells(layers=(DECODER,), rank=(1, 2, 4), frozen=(False, True)),
    near=cells(rate=(3e-4, 1e-3), test_steps=(50,), strength=(1.0, 10.0, 100.0)),
    anchored=cells(rate=(3e-4, 1e-3), test_steps=(50,), strength=(100.0, 1e3, 1e4)),
    far=FAR,
)
# Of the critic the last layer, or all: a whole one may learn five images by heart.
MAKER, HEAD, BLOCK = (("generator.*", "critic_head"), ("head", "critic_head"), ("last_block", "critic_head"))
BIASES = ("biases",)
GAN = Kind(
    "GAN",
    descent=cells(adapted_params=(MAKER, ALL), rate=(0.01, 0.03, 0.1)),
    tuning=cells(adapted_params=(ALL, MAKER), rate=(3e-4, 1e-3, 3e-3), test_steps=(10,)),
    head=cells(adapted_params=(HEAD, BLOCK), rate=(0.01, 0.03, 0.1)),
    deltas=cells(layers=(("*", "!critic_head"),), rank=(1, 4), rate=(0.003, 0.01, 0.03)),  # that head has one row
    curvature=cells(adapted_params=(HEAD, BLOCK), rate=(0.01, 0.03, 0.1)),
    optimiser=cells(adapted_params=(BIASES,), rate=(0.003, 0.01, 0.03), decay=(0.0, 1.0)),
    lstm=cells(adapted_params=(BIASES,), rate=(0.03, 0.1, 0.3), hidden=(8, 20)),
    implicit=cells(steps=(8,), adapted_params=(MAKER,), rate=(0.03, 0.1), proximal=(0.3, 1.0, 3.0)),
    embedded=cells(adapted_params=(MAKER, BIASES), rate=(0.01, 0.03, 0.1)),
    conditional=cells(encoder=ENCODERS, adapted_params=(MAKER, BIASES)),
    classical=cells(adapted_params=(BIASES,), rate=(0.03, 0.1), code=(8, 16, 32)),
    memory=cells(adapted_params=(BIASES,), rate=(0.01, 0.03, 0.1), writing=WRITES),
    code=cells(adapted_params=(BIASES,), rate=(0.03, 0.1), code_rate=(0.001, 0.01, 0.1)),
    written=cells(rank=(1,), width=(16, 32, 64), frozen=(False, True)),  # a layer has one output channel
    near=cells(rate=(3e-4, 1e-3), test_steps=(10,), strength=(0.1, 1.0, 10.0)),
    anchored=cells(rate=(3e-4, 1e-3), test_steps=(10,), strength=(100.0, 1e3, 1e4)),
    far=FAR,
    frozen=cells(rate=(1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3), test_steps=(10,), adapted_params=(("*", "!critic_low"),)),
)
# A prior that reads its support draws well before any step, so steps are small. Grids are, too: each cell takes long.
AUGMENTED = {"support_augment": 1.0}  # of each inner step
CROSS, CROSS_BIASES, READS = ("cross_attention",), ("prior.blocks.*.cross.*.bias",), ("*", "!prior.encoder.*")
TOKENS = Kind(
    "token VAE",
    descent=(*cells(adapted_params=(CROSS,), rate=(3e-4, 1e-3)), *cells(adapted_params=(BIASES,), rate=(1e-3, 1e-2))),
    tuning=(
        *cells(adapted_params=(CROSS,), rate=(3e-4,), test_steps=(10,)),
        *cells(adapted_params=(BIASES,), rate=(1e-3,), test_steps=(10,)),
    ),
    head=cells(adapted_params=(("head",), ("last_block",)), rate=(3e-4, 1e-3)),
    deltas=cells(layers=(CROSS,), rank=(4,), rate=(3e-4, 1e-3), optimiser=("adam",)),
    curvature=cells(adapted_params=(("head",),), rate=(3e-4, 1e-3)),
    optimiser=cells(adapted_params=(BIASES,), rate=(1e-3, 1e-2), decay=(0.0,)),
    lstm=cells(adapted_params=(BIASES,), rate=(1e-3, 1e-2), hidden=(8,)),
    implicit=cells(steps=(8,), adapted_params=(BIASES,), rate=(1e-3,), proximal=(1.0, 10.0)),
    embedded=cells(adapted_params=(BIASES,), rate=(1e-3, 1e-2)),
    conditional=cells(encoder=("set", "attention"), adapted_params=(BIASES,)),
    classical=cells(adapted_params=(BIASES,), rate=(1e-3, 1e-2), code=(8,)),
    memory=cells(adapted_params=(BIASES,), rate=(1e-3, 1e-2), writing=("gated",)),
    code=cells(adapted_params=(CROSS_BIASES,), rate=(1e-3,), code_rate=(0.1, 1.0)),
    written=cells(layers=(CROSS,), rank=(4,), frozen=(False, True)),
    near=cells(adapted_params=(CROSS,), rate=(3e-4,), test_steps=(10,), strength=(1.0, 100.0)),
    anchored=cells(adapted_params=(CROSS,), rate=(3e-4,), test_steps=(10,), strength=(1.0, 100.0)),
    far=cells(rate=(3e-5, 1e-4), steps=(3,)),
    frozen=cells(rate=(1e-4, 3e-4), test_steps=(10,), adapted_params=(READS,)),
)


def kind_of(generator: str) -> Kind:
    """That of the generator of this name, in rows of version 1 its name then."""
    if generator == "token_vae":
        return TOKENS
    return VAE if generators[generator_config({"name": generator})["name"]].comparable else GAN


@dataclass(frozen=True)
class Plan:
    """The part of a learner.

    Attributes:
        learner: its registered name.
        grid: the cells of its search: options of the learner.
        fixed: options that all cells share.
        training: options of meta-training.
        generator: options that the base's generator has instead of its own.
    """

    learner: str
    grid: Grid
    fixed: dict[str, Any] = field(default_factory=lambda: {"steps": 3})
    training: dict[str, Any] = field(default_factory=dict)
    generator: dict[str, Any] = field(default_factory=dict)


def plans(kind: Kind) -> dict[str, Plan]:
    """The plan of every row by its name, those that tell most first; none of what such a generator cannot do."""
    by_name = {
        "joint": Plan("joint", kind.tuning, {}),
        "maml": Plan("maml", kind.descent),
        "fomaml": Plan("fomaml", kind.descent),
        "reptile": Plan("reptile", kind.far, {"optimiser": "adam"}),
        "anil": Plan("anil", kind.head),
        "low-rank": Plan("low_rank", kind.deltas),
        "meta-sgd": Plan("meta_sgd", kind.descent),
        "maml++": Plan("maml_pp", kind.descent),
        "rule engine": Plan("engine", kind.descent),
        "meta-curvature": Plan("meta_curvature", kind.curvature),
        "learned optimiser": Plan("learned_optimiser", kind.optimiser),
        "lstm": Plan("lstm", kind.lstm),
        "optimiser mixture": Plan("mixture", kind.descent),
        "imaml": Plan("imaml", kind.implicit, {}),
        "auxiliary": Plan("auxiliary", kind.descent),
        "maml, regularised": Plan("maml", kind.descent, training={"regularise": {"dropout": 0.2}}),
        "maml-adjoint": Plan("adjoint", kind.descent),
        "task embedding": Plan("task_embedding", kind.embedded, {"steps": 3, "code": 32, "uses": ["start", "step"]}),
        "conditional": Plan("task_embedding", kind.conditional, {"steps": 0, "code": 32, "uses": ["start", "gates"]}),
        "classical": Plan("task_embedding", kind.classical, {"steps": 3, "encoder": "gradient", "uses": ["start"]}),
        "memory": Plan("memory", kind.memory, {"steps": 3, "code": 32}),
        "leo": Plan("leo", kind.code, {"steps": 4, "code_steps": 2, "code": 32}),
        "meta-generator": Plan("meta_generator", kind.written, {"steps": 0}),
        "transfer, l2": Plan("transfer", kind.near, {"anchor": "l2"}),
        "transfer, ewc": Plan("transfer", kind.anchored, {"anchor": "ewc"}),
        "transfer, freezed": Plan("joint", kind.frozen, {}),
    }
    return {name: plan for name, plan in by_name.items() if plan.grid}


def fine_tuned() -> dict[str, Plan]:
    """Rows without meta-training: steps of Adam on a part of a token VAE as it is."""
    moved = {
        "cross-attention": CROSS,
        "keys and values": ("prior.blocks.*.cross.keys_values.*",),
        "biases": BIASES,
        "head": ("head",),
        "null tokens": ("prior.null",),
        "all weights": ALL,
        "all but the encoder": READS,
    }
    rates = {"biases": (3e-4, 1e-3), "head": (1e-4, 3e-4), "null tokens": (1e-3, 3e-3)}
    by_name = {
        name: Plan("joint", cells(adapted_params=(part,), rate=rates.get(name, (1e-4, 3e-4)), test_steps=(10,)), {})
        for name, part in moved.items()
    }
    low_rank = cells(layers=(CROSS,), rank=(1, 4), rate=(3e-4, 1e-3), optimiser=("adam",))
    by_name["low rank, cross-attention"] = Plan("low_rank", low_rank, {})
    augmented = {"cross-attention": (CROSS, 3e-4), "biases": (BIASES, 1e-3), "all weights": (ALL, 1e-4)}
    for name, (part, rate) in augmented.items():
        one = cells(adapted_params=(part,), rate=(rate,), test_steps=(10,))
        by_name[f"{name}, augmented"] = Plan("joint", one, {}, generator=AUGMENTED)
    return {f"fine-tune: {name}": plan for name, plan in by_name.items()}
