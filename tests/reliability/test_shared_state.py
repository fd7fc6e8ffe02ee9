"""One model, and one process, in many threads: each gets what it would get alone, and nothing is left changed."""

from __future__ import annotations

import copy
import gc
import logging
import multiprocessing
import os
import pickle
import sys
import threading
import warnings
import weakref
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import metagen
from metagen.adaptation.regularisers import path_norms
from metagen.cli import main
from metagen.core.functional import with_weights
from metagen.core.philox import Draws
from metagen.core.quiet import from_first_process
from metagen.core.seeding import seeded, torch_rng
from metagen.evaluation.baselines import untrained
from metagen.learners import learners
from metagen.learners.model_files import load_model
from metagen.metrics.extractors.extractor_files import load_extractor
from metagen.metrics.torchmetric import FrechetDistance
from metagen.model import Model
from metagen.storage.bundled import bundled
from metagen.storage.images import read_image, save_png
from tests.doubles import VARIANTS, tiny_generator, tiny_learner, tiny_vae

THREADS, ROUNDS = 3, 2


@pytest.fixture(autouse=True)
def often():
    """Threads are switched a thousand times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def images(seed: int, count: int = 3) -> torch.Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed)).round()


def together(*jobs):
    """What each job returns, all of them begun at once in a thread of its own."""
    gate = threading.Barrier(len(jobs))

    def begun(job):
        gate.wait()
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(begun, jobs))


def assert_as_alone(job, rounds: int = ROUNDS) -> None:
    """`job(number)` gives in threads, several times, what it gives one after the other."""
    alone = [job(number) for number in range(THREADS)]
    for _ in range(rounds):
        for number, found in enumerate(together(*(partial(job, number) for number in range(THREADS)))):
            assert torch.equal(found, alone[number])


def state(model: Model) -> list[tuple[str, int, torch.Tensor]]:
    """Every weight by name: which object it is, and its values."""
    return [(name, id(weight), weight.clone()) for name, weight in model.learner.named_parameters()]


def assert_undamaged(model: Model, before) -> None:
    after = state(model)
    assert [each[:2] for each in after] == [each[:2] for each in before]  # the same parameters, not other tensors
    assert all(torch.equal(one[2], other[2]) for one, other in zip(after, before, strict=True))
    assert not model.learner.training
    assert not any(w.requires_grad for w in model.learner.parameters())


@pytest.mark.parametrize("learner", learners)
def test_adapting_with_any_learner(learner):
    torch.manual_seed(0)
    model = Model(tiny_learner(learner, steps=2, rate=0.01), {})
    before, steps = state(model), 2 if model.learner.adapted_names else None
    assert_as_alone(lambda number: model.adapt(images(number), steps).sample(2, seed=number))
    assert_undamaged(model, before)


@pytest.mark.parametrize("generator", VARIANTS)
def test_adapting_any_generator(generator):
    torch.manual_seed(0)
    learner = learners["maml" if generator != "token_vae" else "amortised"]
    options = {"steps": 1, "rate": 0.01} if generator != "token_vae" else {}
    model = Model(learner(tiny_generator(generator), **options), {})
    before = state(model)
    assert_as_alone(lambda number: model.adapt(images(number)).sample(2, seed=number), rounds=1)
    assert_undamaged(model, before)


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return Model(tiny_learner("maml", steps=2, rate=0.01), {})


def test_steps_chosen_by_the_support(vae):
    assert_as_alone(lambda number: vae.adapt(images(number), steps="auto").sample(2), rounds=1)


@pytest.mark.parametrize("method", ["reconstruct", "project", "log_prob"])
def test_looking_through_one_adapted_model(vae, method):
    adapted = vae.adapt(images(0))
    assert_as_alone(lambda number: getattr(adapted, method)(images(number)))


def test_interpolating_and_sampling_of_one_adapted_model(vae):
    adapted = vae.adapt(images(0))
    jobs: list[Callable[[], torch.Tensor]] = [
        partial(adapted.interpolate, images(1), images(2), 3),
        partial(adapted.sample, 5, 1),
        lambda: vae.adapt(images(3)).sample(2),
        lambda: vae.adapt_many(torch.stack([images(4), images(5)])).sample(2),
    ]
    alone = [job() for job in jobs]
    for _ in range(ROUNDS):
        assert all(torch.equal(one, other) for one, other in zip(together(*jobs), alone, strict=True))


def test_sampling_options_of_one_thread_are_not_those_of_another():
    torch.manual_seed(0)
    model = Model(tiny_learner("amortised", "token_vae"), {})
    adapted, own = model.adapt(images(0)), model.sampling
    assert_as_alone(lambda number: adapted.sample(3, temperature=0.2 + number))
    assert model.sampling == own


def test_saving_while_others_adapt(vae, tmp_path):
    support, before = images(0), state(vae)
    alone = vae.adapt(support).sample(2)
    jobs = [lambda n=n: vae.save(tmp_path / str(n)) or vae.adapt(support).sample(2) for n in range(THREADS)]
    assert all(torch.equal(found, alone) for found in together(*jobs))
    assert_undamaged(vae, before)
    for n in range(THREADS):
        assert torch.equal(metagen.load(tmp_path / str(n)).adapt(support).sample(2), alone)


def test_loading_one_model_while_others_build_networks(vae, tmp_path):
    vae.save(tmp_path / "model")
    alone = vae.adapt(images(0)).sample(2)

    def job(number: int) -> torch.Tensor:
        for _ in range(5):
            tiny_vae()  # adds parameters while others load
        return metagen.load(tmp_path / "model").adapt(images(0)).sample(2)

    for _ in range(ROUNDS):
        found = together(*(partial(job, number) for number in range(THREADS)))
        assert all(torch.equal(each, alone) for each in found)
    assert torch.zeros(1).device.type == "cpu"


def test_a_baseline_that_begins_at_random_begins_alike_while_others_load(vae, tmp_path):
    vae.save(tmp_path / "model")
    alone = [torch.cat([w.flatten() for w in untrained(vae.learner, seed).parameters()]) for seed in range(2)]

    def drawn(seed: int) -> torch.Tensor:
        return torch.cat([w.flatten() for w in untrained(vae.learner, seed).parameters()])

    for _ in range(10):
        found = together(partial(drawn, 0), partial(drawn, 1), *2 * [partial(load_model, tmp_path / "model")])
        assert torch.equal(found[0], alone[0])
        assert torch.equal(found[1], alone[1])


def test_reading_images_leaves_what_filters_warnings(tmp_path):
    save_png(images(0)[0], tmp_path / "a.png")
    before = list(warnings.filters)
    assert_as_alone(lambda number: torch.stack([read_image(tmp_path / "a.png", 8, 1)] * (1 + number)), rounds=20)
    assert warnings.filters == before


def test_measuring_through_one_extractor():
    extractor = load_extractor(bundled("extractors", "omniglot-report"))[0]

    def distance(number: int) -> torch.Tensor:
        metric, rng = FrechetDistance(extractor), torch.Generator().manual_seed(number)
        for real in (True, False):
            metric.update(torch.rand(8, 1, 28, 28, generator=rng), real=real)
        return metric.compute()

    assert_as_alone(distance, rounds=1)


def test_a_pure_call_never_changes_the_module(vae):
    generator = vae.learner.generator
    own = dict(generator.named_parameters())
    other = {name: w + 1 for name, w in own.items()}
    noise, seen = generator.noise(2, Draws((0,))), []

    class Watching(dict):
        def __getitem__(self, name):
            seen.append(all(w is own[n] for n, w in generator.named_parameters()))
            return super().__getitem__(name)

    moved = with_weights(generator, other).sample(Watching(noise), None)
    assert seen
    assert all(seen)
    assert not torch.equal(moved, generator.sample(noise, None))
    assert all(w is own[name] for name, w in generator.named_parameters())


def test_weights_of_two_names_are_one_in_the_copy_too():
    tied: Any = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    copy: Any = with_weights(tied, {"1.weight": torch.zeros(2, 2)})
    assert copy[0].weight is copy[1].weight
    assert not copy[0].weight.any()
    assert tied[0].weight.any()
    assert isinstance(tied[0].weight, torch.nn.Parameter)


def test_path_norms_look_at_the_given_weights_alone(vae):
    generator = vae.learner.generator
    weights = {name: torch.zeros_like(w) for name, w in generator.named_parameters()}
    assert path_norms(generator, "vae", weights) == 0
    assert path_norms(generator, "vae", dict(generator.named_parameters())) > 0


def test_fitting_in_threads_is_fitting(tiny, exported, tmp_path):
    ended = threading.Event()

    def seed_again_and_again() -> None:
        while not ended.wait(1e-3):
            torch.manual_seed(7)

    disturber = threading.Thread(target=seed_again_and_again)
    disturber.start()
    try:
        jobs = [partial(main, ["fit", *tiny, "--run_dir", str(tmp_path / str(n))]) for n in range(2)]
        assert together(*jobs) == [0, 0]
    finally:
        ended.set()
        disturber.join()
    want = load_model(exported)[0].state_dict()
    for n in range(2):
        found = load_model(tmp_path / str(n) / "export")[0].state_dict()
        assert all(torch.equal(found[name], want[name]) for name in want)


def test_evaluating_in_threads_is_evaluating(exported, blobs, tmp_path):
    words = ["evaluate", "--model", str(exported), "--extractor", "none", "--curve", "[0, 1]", "--limit", "2"]
    words += ["--data.root", str(blobs / "tasks"), "--data.split_file", str(blobs / "split.json")]
    words += ["--trainer.accelerator", "cpu", "--baselines", "false"]

    def judged(number: int) -> torch.Tensor:
        assert main([*words, "--out", str(tmp_path / str(number))]) == 0
        values = load_file(tmp_path / str(number) / "values.safetensors")
        return torch.cat([values[name].flatten() for name in sorted(values)])

    alone = judged(0)
    assert all(torch.equal(each, alone) for each in together(partial(judged, 1), partial(judged, 2)))


def test_weights_in_a_copy_are_let_go_with_it():
    generator = tiny_vae()
    weights = {name: weight.detach().clone() for name, weight in generator.named_parameters()}
    kept = [weakref.ref(weight) for weight in weights.values()]
    gc.disable()  # a cycle would hold them until it runs: on a GPU, until memory is short
    try:
        with_weights(generator, weights)
        del weights
        assert not any(each() is not None for each in kept)
    finally:
        gc.enable()


def drawn(meanwhile: Callable[[], object]) -> torch.Tensor:
    with seeded(0):
        first = torch.nn.Linear(3, 2)
        meanwhile()
        return torch.cat([first.weight, torch.nn.Linear(3, 2).weight])


def test_a_network_is_that_of_its_seed_whatever_is_seeded_meanwhile():
    alone = drawn(lambda: None)
    assert not torch.equal(alone[:2], alone[2:])
    torch.manual_seed(7)
    assert torch.equal(drawn(partial(together, partial(torch.manual_seed, 7))), alone)
    assert torch.equal(drawn(partial(torch.manual_seed, 7)), alone)


MADE: dict[str, Callable[[], torch.nn.Module]] = {
    **{name: partial(tiny_generator, name) for name in VARIANTS},
    **{name: partial(tiny_learner, name) for name in learners},
}


@pytest.mark.parametrize("name", MADE)
def test_all_weights_are_those_of_the_seed(name):
    def made() -> dict[str, torch.Tensor]:
        with seeded(0):
            return MADE[name]().state_dict()

    before, one = torch.get_rng_state(), made()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(7)
    other = made()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_loading_a_model_leaves_torch_s_own_generator_as_it_was(exported):
    before = torch.get_rng_state()
    load_model(exported)
    assert torch.equal(torch.get_rng_state(), before)


def pickled(made):
    return pickle.loads(pickle.dumps(made))  # noqa: S301 - as a pool of processes hands it over


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickled])
def test_copies_of_a_model_and_of_what_is_adapted_are_as_good(vae, way):
    alone = vae.adapt(images(0)).sample(2)
    assert torch.equal(way(vae).adapt(images(0)).sample(2), alone)
    assert torch.equal(way(vae.adapt(images(0))).sample(2), alone)
    assert torch.equal(way(vae.adapt_many(images(0)[None])).sample(2)[0], alone)


def sampled(model: Model) -> torch.Tensor:
    torch.set_num_threads(1)
    return model.adapt(images(0)).sample(2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_forked_processes_sample_as_their_parent(vae):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for found in pool.map(sampled, [vae, vae]):
            assert torch.equal(found, sampled(vae))


def test_storing_as_float16_is_never_seen_half_done(tmp_path):
    torch.manual_seed(0)
    model = Model(tiny_learner("maml", steps=1, rate=0.01), {})
    adapted, stop, found = model.adapt(images(0)), threading.Event(), []

    def sample() -> None:
        while not stop.is_set():
            found.append(adapted.sample(2))

    old, before = model.learner, adapted.sample(2)
    own = [w.clone() for w in old.parameters()]
    threads = [threading.Thread(target=sample) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    model.save(tmp_path / "half", stored_as="float16")
    stop.set()
    for thread in threads:
        thread.join()
    after = adapted.sample(2)
    assert not torch.equal(before, after)
    assert all(torch.equal(each, before) or torch.equal(each, after) for each in found)
    assert all(torch.equal(w, was) for w, was in zip(old.parameters(), own, strict=True))
    adapted.save(tmp_path / "mine")
    assert torch.equal(metagen.load(tmp_path / "mine").sample(2), after)


@pytest.mark.parametrize("key", [(0, "sample", 1), (2**70, "adapt"), (7,)])
def test_seeds_are_those_of_before(key):
    words = [zlib.crc32(k.encode()) if isinstance(k, str) else k for k in key]
    state = np.random.SeedSequence(words).generate_state(1, np.uint64)[0]
    assert torch_rng(*key).initial_seed() == int(state >> np.uint64(1))


@pytest.mark.parametrize("starter", ["RANK", "SLURM_PROCID", "LOCAL_RANK"])
@pytest.mark.parametrize(("number", "printed"), [("0", True), ("1", False), (None, True)])
def test_of_many_processes_the_first_one_warns(monkeypatch, starter, number, printed):
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    if number is not None:
        monkeypatch.setenv(starter, number)
    record = logging.LogRecord("metagen", logging.WARNING, "here", 1, "told", (), None)
    assert from_first_process(record) is printed
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    assert from_first_process(record)
