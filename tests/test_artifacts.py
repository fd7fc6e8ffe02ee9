"""Saved models: what comes back is what was saved, and what is damaged or hostile is refused in one line."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

import metagen
from metagen.errors import MetagenError
from metagen.learners import adapt_tasks, learners
from metagen.learners.model_files import describe, load_adapted, load_model, save_adapted, save_model
from metagen.model import Model
from metagen.storage import artifacts
from metagen.storage.artifacts import read_config
from metagen.tasks.splits import Split, read_split
from tests.doubles import pairs, tiny_vae
from tests.doubles import tiny_learner as tiny_pair

INFO = {"data": {"task_set": "blobs"}, "training": {"seed": 3}}


def tiny_learner(seed: int = 0, name: str = "reptile", **options):
    torch.manual_seed(seed)
    return learners[name](tiny_vae(), rate=0.05, test_steps=2, **options)


@pytest.fixture
def saved(tmp_path):
    """A saved model's folder, and that of a model adapted from it."""
    model = Model(tiny_learner(), INFO)
    model.save(tmp_path / "base")
    support = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    model.adapt(support).save(tmp_path / "mine")
    return tmp_path / "base", tmp_path / "mine"


def edit(folder: Path, **changes):
    """Change entries of a saved config."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def put(file: Path, data: bytes):
    """Put other bytes in place of a weights file, and their hash in its config, so that the hash cannot refuse them."""
    file.write_bytes(data)
    edit(file.parent, weights_sha256=hashlib.sha256(data).hexdigest())


def refusal(folder: Path, file: Path, *said: str):
    """Loading fails in one line that names the file."""
    with pytest.raises(MetagenError) as info:
        metagen.load(folder)
    message = str(info.value)
    assert "\n" not in message
    assert str(file) in message
    for words in said:
        assert words in message


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# round trips


@pytest.mark.parametrize(("learner", "generator"), pairs())
def test_every_learner_over_every_generator_comes_back_bit_for_bit(tmp_path, learner, generator):
    torch.manual_seed(0)
    original = tiny_pair(learner, generator).eval().requires_grad_(False)  # as one comes back: else kernels differ
    split = Split(("a",), ("b",), ("ü",))
    weights = save_model(tmp_path / "model", original, INFO, split)
    again, info, stated = load_model(tmp_path / "model")
    assert describe(again) == describe(original)
    assert type(again) is type(original)
    assert info == INFO
    assert stated == weights == hashlib.sha256((tmp_path / "model/model.safetensors").read_bytes()).hexdigest()
    assert read_split(tmp_path / "model/split.json") == split
    assert again.state_dict().keys() == original.state_dict().keys()
    assert all(torch.equal(w, again.state_dict()[name]) for name, w in original.state_dict().items())
    assert not any(w.requires_grad for w in again.parameters())
    support = torch.rand(1, 3, 1, 8, 8)
    first, second = (adapt_tasks(each, support, (0, "test"), steps=2).difference for each in (original, again))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_model_stored_as_float16_is_half_as_large_and_widened(tmp_path):
    learner = tiny_learner()
    exact = {name: w.clone() for name, w in learner.state_dict().items()}
    save_model(tmp_path / "full", learner, INFO)
    weights = save_model(tmp_path / "half", learner, INFO, stored_as="float16")
    assert "stored_as" not in read_config(tmp_path / "full", "model")
    assert read_config(tmp_path / "half", "model")["stored_as"] == "float16"
    assert '- stored_as: `"float16"`' in (tmp_path / "half/README.md").read_text()
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.7 * sizes[1]  # the header is as long
    stored = load((tmp_path / "half/model.safetensors").read_bytes())
    again, info, stated = load_model(tmp_path / "half")
    assert (info, stated) == (INFO, weights)
    for name, weight in again.state_dict().items():
        assert stored[name].dtype == torch.float16
        assert weight.dtype == torch.float32
        assert torch.equal(weight, exact[name].half().float())
    assert all(torch.equal(w, exact[name]) for name, w in learner.state_dict().items())  # rounded in the file alone


def test_what_is_adapted_from_a_model_stored_as_float16_is_the_same_after_loading(tmp_path):
    model, support = Model(tiny_learner(), INFO), torch.full((2, 1, 8, 8), 0.5)
    before = model.adapt(support)
    model.save(tmp_path / "base", stored_as="float16")
    for number, adapted in enumerate((before, model.adapt(support))):
        adapted.save(tmp_path / f"mine-{number}")
        assert torch.equal(metagen.load(tmp_path / f"mine-{number}").sample(3), adapted.sample(3))
    assert torch.equal(metagen.load(tmp_path / "base").adapt(support).sample(3), adapted.sample(3))


@pytest.mark.parametrize("stored_as", ["float64", "bfloat16", "", None, 16, ["float16"], {"float16": 1}])
def test_another_storage_type_is_refused(saved, tmp_path, stored_as):
    edit(saved[0], stored_as=stored_as)
    refusal(saved[0], saved[0] / "config.json", "stored_as: expected float32 or float16, got")
    with pytest.raises(MetagenError, match="stored_as: expected float32 or float16"):
        save_model(tmp_path / "new", tiny_learner(), INFO, stored_as=stored_as)
    assert not (tmp_path / "new").exists()


def test_tensors_of_another_type_than_declared_are_refused(saved):
    base, _ = saved
    edit(base, stored_as="float16")
    refusal(base, base / "model.safetensors", "expected", "torch.float16, got", "torch.float32")
    edit(base, stored_as="float32")
    metagen.load(base)
    tensors = load((base / "model.safetensors").read_bytes())
    put(base / "model.safetensors", save({name: t.half() for name, t in tensors.items()}))
    refusal(base, base / "model.safetensors", "torch.float32, got", "torch.float16")


@pytest.mark.parametrize("value", [1e5, -1e5, float("nan")])
def test_what_float16_cannot_hold_is_refused_before_anything_is_written(tmp_path, value):
    learner = tiny_learner()
    next(learner.parameters()).data.view(-1)[0] = value
    with pytest.raises(MetagenError, match=r"beyond float16; store it as float32$"):
        Model(learner, INFO).save(tmp_path / "half", stored_as="float16")
    assert not (tmp_path / "half").exists()


@pytest.mark.parametrize("standalone", [False, True])
def test_an_adapted_model_samples_the_same_after_its_file(tmp_path, standalone):
    model = Model(tiny_learner(name="maml", adapted_params=("decoder.*",)), INFO)
    model.save(tmp_path / "base")
    adapted = model.adapt(torch.rand(3, 1, 8, 8), seed=4)
    adapted.save(tmp_path / "mine", standalone)
    again = metagen.load(tmp_path / "mine")
    assert torch.equal(again.sample(4, seed=2), adapted.sample(4, seed=2))
    assert not torch.equal(again.sample(4, seed=2), model.adapt(torch.rand(3, 1, 8, 8), steps=0).sample(4, seed=2))
    assert again.info == {"shots": 3, "steps": 2, "seed": 4}
    stored = load((tmp_path / "mine/difference.safetensors").read_bytes())
    assert stored.keys() == model.learner.adapted_names  # what does not move is not stored


def test_a_standalone_one_outlives_its_base_and_moves_alone(tmp_path):
    model = Model(tiny_learner(), INFO)
    model.save(tmp_path / "base")
    adapted = model.adapt(torch.rand(2, 1, 8, 8))
    adapted.save(tmp_path / "mine", standalone=True)
    expected = adapted.sample(2)
    shutil.rmtree(tmp_path / "base")
    (tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "mine", tmp_path / "elsewhere/mine")
    assert torch.equal(metagen.load(tmp_path / "elsewhere/mine").sample(2), expected)


def test_base_and_adapted_move_together_but_not_apart(saved, tmp_path):
    base, mine = saved
    expected = metagen.load(mine).sample(2)
    assert str(tmp_path) not in (mine / "config.json").read_text()  # the base is named by a relative path
    shutil.copytree(tmp_path, tmp_path / "copy", ignore=shutil.ignore_patterns("copy"))
    shutil.rmtree(base)
    assert torch.equal(metagen.load(tmp_path / "copy/mine").sample(2), expected)
    refusal(mine, mine / "config.json", f"not at {base}", "--standalone")


def test_a_base_with_other_weights_is_refused(saved):
    base, mine = saved
    Model(tiny_learner(seed=9), INFO).save(base, overwrite=True)
    refusal(mine, mine / "config.json", "put the right base there")


def test_the_base_is_checked_too(saved):
    base, mine = saved
    data = bytearray((base / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (base / "model.safetensors").write_bytes(data)
    refusal(mine, base / "model.safetensors", "damaged")


@pytest.mark.parametrize("reference", [None, {}, {"path": 3}, "base", {"path": "a\0b"}, {"path": ""}])
def test_a_strange_reference_to_the_base_is_refused(saved, reference):
    _, mine = saved
    edit(mine, base=reference)
    refusal(mine, mine)


def test_an_adapted_model_names_a_saved_base(tmp_path):
    with pytest.raises(MetagenError, match=r"no config\.json"):
        save_adapted(tmp_path / "mine", {}, None, tmp_path / "absent", {})


@pytest.mark.parametrize("place", ["base", "base/mine", "."])
def test_an_adapted_model_never_replaces_its_base(saved, tmp_path, place):
    base, _ = saved
    before = contents(tmp_path)
    with pytest.raises(MetagenError, match="its own base model"):
        save_adapted(tmp_path / place, {"w": torch.zeros(1)}, None, base, {}, overwrite=True)
    assert contents(tmp_path) == before


# damage


@pytest.mark.parametrize(("which", "name"), [(0, "model.safetensors"), (1, "difference.safetensors")])
def test_a_flipped_bit_is_noticed(saved, which, name):
    file = saved[which] / name
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    refusal(saved[which], file, "SHA-256", "damaged")


@pytest.mark.parametrize(("which", "name"), [(0, "model.safetensors"), (1, "difference.safetensors")])
def test_missing_weights_are_noticed(saved, which, name):
    (saved[which] / name).unlink()
    refusal(saved[which], saved[which] / name, "No such file")


def header(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:5],
        lambda data: data[:-7],
        lambda data: data + b"\0" * 4,
        lambda data: (2**63).to_bytes(8, "little") + data[8:],
        lambda data: header(b"{"),
        lambda data: header(b"[]"),
        lambda data: header(b"[" * 50_000),
        lambda data: header(b'{"w\\n":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}') + b"\0" * 4,
        lambda data: header(b'{"w":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}') + b"\0" * 4,
        lambda data: header(b'{"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}') + b"\0" * 4,
    ],
    ids=["empty", "stub", "short", "long", "huge", "cut", "list", "deep", "shape", "type", "negative"],
)
@pytest.mark.parametrize(("which", "name"), [(0, "model.safetensors"), (1, "difference.safetensors")])
def test_what_is_no_safetensors_file_is_refused_though_its_hash_is_right(saved, which, name, damage):
    file = saved[which] / name
    put(file, damage(file.read_bytes()))
    refusal(saved[which], file, "not a safetensors file")


class Attack:
    """Runs a command of an attacker's when unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("write", [pickle.dumps, None], ids=["pickle", "torch.save"])
def test_a_pickle_is_never_run(saved, tmp_path, write):
    base, _ = saved
    mark, file = tmp_path / "mark", base / "model.safetensors"
    attack = Attack(f"touch '{mark}'")
    pickle.loads(pickle.dumps(attack))  # noqa: S301 - it is a real one
    assert mark.exists()
    mark.unlink()
    if write is None:
        torch.save({"w": attack}, tmp_path / "attack")
        data = (tmp_path / "attack").read_bytes()
    else:
        data = write(attack)
    put(file, data)
    refusal(base, file, "not a safetensors file")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t, n: {k: v for k, v in t.items() if k != n}, "missing tensors"),
        (lambda t, n: {**t, "extra\nline": torch.zeros(1)}, "unexpected tensors"),
        (lambda t, n: {**t, n: t[n][None]}, "expected"),
        (lambda t, n: {**t, n: t[n].double()}, "float64"),
        (lambda t, n: {**t, n: t[n].to(torch.int32)}, "int32"),
        (lambda t, n: {**t, n: torch.full_like(t[n], float("nan"))}, "not finite"),
        (lambda t, n: {**t, n: torch.full_like(t[n], float("-inf"))}, "not finite"),
        (lambda t, n: {}, "missing tensors"),
    ],
    ids=["missing", "extra", "shape", "double", "integer", "nan", "infinite", "none"],
)
@pytest.mark.parametrize(("which", "name"), [(0, "model.safetensors"), (1, "difference.safetensors")])
def test_tensors_that_do_not_fit_are_refused_by_name(saved, which, name, change, said):
    file = saved[which] / name
    tensors = load(file.read_bytes())
    put(file, save(change(tensors, sorted(tensors)[-1])))
    refusal(saved[which], file, said)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"not json",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b"9" * 10_000,
        b" " * (artifacts.MAX_CONFIG_BYTES + 1),
        b'{"format": "metagen"}',
        b'{"format": "metagen", "version": 1}',
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_is_no_config_is_refused(saved, text):
    for folder in saved:
        (folder / "config.json").write_bytes(text)
        refusal(folder, folder / "config.json")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"version": 3},
            "version 3; this metagen reads versions 1 and 2: use the metagen that wrote it, or make it again",
        ),
        ({"version": "1\n2"}, "version"),
        ({"version": [1]}, "version"),
        ({"version": None}, "version"),
        ({"kind": "modell"}, "kind"),
        ({"kind": ["model"]}, "kind"),
        ({"weights_sha256": None}, "weights_sha256"),
        ({"format": "other"}, "not a metagen config"),
    ],
)
def test_a_config_of_another_kind_or_version_is_refused(saved, changes, said):
    for folder in saved:
        edit(folder, **changes)
        refusal(folder, folder / "config.json", said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"generator": None}, "expected the objects"),
        ({"learner": ["reptile"]}, "expected the objects"),
        ({"info": "x"}, "expected the objects"),
        ({"generator": {"name": "vea"}}, "did you mean vae"),
        ({"generator": {"name": "os\nsystem"}}, "unknown generator"),
        ({"generator": {"name": "vae", "size": 8, "latnet": 2}}, "did you mean latent"),
        ({"generator": {"name": "vae", "size": 8, "widths": [4, "8"]}}, "vae"),
        ({"generator": {"name": "vae", "size": 8, "widths": [4, 8], "latent": {"a": 1}}}, "vae"),
        ({"learner": {"name": "reptile", "adapted_params": ["nothing.*"]}}, "matches no weight"),
        ({"learner": {"name": "reptile", "steps": -1}}, "steps"),
        ({"learner": {"name": "reptile", "test_steps": "5"}}, "reptile"),
        ({"learner": {"name": "reptile", "rate": "0.1"}}, "reptile"),
        ({"learner": {"name": "reptile", "generator": {}}}, "generator"),
    ],
)
def test_a_config_with_bad_options_is_refused(saved, changes, said):
    base, _ = saved
    edit(base, **changes)
    refusal(base, base / "config.json", said)


def test_each_kind_is_read_as_what_it_is(saved):
    base, mine = saved
    with pytest.raises(MetagenError, match="expected a model, got an adapted model; name a folder that metagen fit"):
        load_model(mine)
    with pytest.raises(MetagenError, match=r"expected an adapted model, got a model; .* that metagen adapt"):
        load_adapted(base)
    assert read_config(mine)["kind"] == "adapted"


def test_a_base_that_is_itself_adapted_is_refused(saved):
    _, mine = saved
    edit(mine, base={"path": ".", "weights_sha256": read_config(mine)["weights_sha256"]})
    with pytest.raises(MetagenError, match="expected a model, got an adapted model"):
        metagen.load(mine)


def test_what_is_no_folder_of_a_model_is_refused(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "strange/config.json").mkdir(parents=True)
    for name in ("absent", "empty", "strange", "file"):
        refusal(tmp_path / name, tmp_path / name)


# writing


def test_nothing_is_replaced_unasked(saved):
    base, mine = saved
    before = contents(base), contents(mine)
    other = tiny_learner(seed=5)
    with pytest.raises(MetagenError, match="exists and is not empty"):
        save_model(base, other, INFO)
    with pytest.raises(MetagenError, match="exists and is not empty"):
        metagen.load(mine).save(mine)
    assert (contents(base), contents(mine)) == before
    save_model(base, other, INFO, overwrite=True)
    again = load_model(base)[0].state_dict()
    assert all(torch.equal(w, again[name]) for name, w in other.state_dict().items())


def test_a_base_that_cannot_be_copied_is_a_user_error(saved, monkeypatch):
    base, mine = saved
    before, adapted = contents(base.parent), metagen.load(mine)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(MetagenError, match="No space left") as info:
        adapted.save(base.parent / "other", standalone=True)
    assert "\n" not in str(info.value)
    assert contents(base.parent) == before


@pytest.mark.parametrize(
    ("function", "call"),  # three files, and after each its folder; then the old folder away and the new one there
    [("fsync", 1), ("fsync", 3), ("fsync", 5), ("replace", 1), ("replace", 3), ("rename", 1), ("rename", 2)],
)
def test_a_full_disk_leaves_the_old_export_whole_and_no_litter(saved, monkeypatch, function, call):
    base, mine = saved
    before = contents(base.parent)
    adapted, calls, real = metagen.load(mine), 0, getattr(os, function)

    def full(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **kwargs)

    for write in (
        lambda: save_model(base, tiny_learner(seed=5), INFO, overwrite=True),
        lambda: adapted.save(mine, standalone=True, overwrite=True),
    ):
        calls = 0
        with monkeypatch.context() as patch:
            patch.setattr(os, function, full)
            with pytest.raises(MetagenError, match="No space left"):
                write()
        assert contents(base.parent) == before
        assert not [p for p in base.parent.rglob("*") if p.name.startswith(".")]
