"""From a damaged file comes one line or the sound thing; tests/slow/test_damage.py reads far more of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import damage

EXPORTS = [
    "model-config-deep-dicts",
    "model-config-deep-info",
    "model-config-twice",
    "model-option-latent",
    "model-option-widths",
    "model-option-width-prime",
    "model-option-vae-depth",
    "model-option-name-long",
    "model-value-version-lines",
    "model-value-weights_sha256-lines",
    "model-value-weights_sha256-deep",
    "model-value-generator.latent-deep",
    "model-split-hash-number",
    "model-split-hash-lines",
    "model-tensors-length-huge",
    "model-tensors-json-deep",
    "model-tensors-offsets-overlap",
    "model-tensors-extra-long",
    "mine-value-base.path-lines",
    "mine-value-base.path-long",
    "mine-value-base.path-surrogate",
    "mine-value-base.weights_sha256-lines",
    "mine-support-double",
    "mine-support-float8",
    "mine-support-nan",
    "mine-support-hash-deep",
    "mine-tensors-dtype-float8",
    "extractor-option-widths-many",
    "extractor-option-classes",
    "extractor-tensors-nan",
]
IMAGES = ["side-20000.png", "inflates.png", "many-frames.png", "checksum.png", "itself.tiff", "zip.png", "digits.pgm"]


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    """A folder of sound exports."""
    root = tmp_path_factory.mktemp("sound")
    damage.write_exports(root)
    return root


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder for damaged files."""
    return tmp_path_factory.mktemp("damage") / "place"


@pytest.mark.parametrize("kind", damage.KINDS)
def test_what_is_not_damaged_is_read(sound, kind):
    damage.read_export(sound / kind)


def test_images_that_are_not_damaged_are_read(tmp_path):
    for name, data in damage.sound_images().items():
        (tmp_path / name).write_bytes(data)
        damage.read_picture(tmp_path / name)


@pytest.mark.parametrize("name", EXPORTS)
def test_a_damaged_export_is_refused_in_one_line(sound, tmp_path, name):
    kind, damages = damage.export_damage(sound)[name]
    assert damage.complaint(damage.read_export, damage.damaged(sound, kind, damages, tmp_path / "damaged")) is None


def test_a_damaged_image_is_refused_in_one_line(tmp_path):
    made = {**damage.huge_images(), **damage.strange_images()}
    for name in IMAGES:
        (tmp_path / name).write_bytes(made[name])
        assert damage.complaint(damage.read_picture, tmp_path / name) is None, name
        (tmp_path / name).unlink()


@pytest.mark.parametrize(
    ("fuzz", "examples"),
    [(damage.fuzz_config, 30), (damage.fuzz_weights, 30), (damage.fuzz_image, 60), (damage.fuzz_run, 10)],
)
def test_random_damage_is_told_in_one_line(sound, place, fuzz, examples):
    @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
    @given(st.data())
    def found(data):
        fuzz(sound, place, data)

    found()
