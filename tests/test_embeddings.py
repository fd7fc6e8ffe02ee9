"""Task embeddings: planted structure is found, order bears on nothing, scores and chance as counted by hand."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.func import vmap

from metagen.adaptation import draw_alike, draw_noise, support_gradient
from metagen.cli import main
from metagen.core.philox import Draws
from metagen.embeddings import PCA, EmbeddingGAN, Filtering, Pixels, embedder, embeddings
from metagen.embeddings.embedder import Places, distances
from metagen.embeddings.scores import group_chance, group_precision, identity, nearest
from metagen.errors import MetagenError
from metagen.generators import VAE
from metagen.learners import MAML, Adapted, Amortised, Joint, Reptile
from metagen.learners.model_files import save_model
from metagen.storage.images import save_pngs
from metagen.tasks.base import group_of
from metagen.tasks.episodes import Episode
from metagen.tasks.splits import Split
from tests.doubles import Quadratic, tiny_generator, tiny_learner, tiny_vae

WAYS = ("gradient", "fisher", "adapted", "filtering")


def spots(tasks: int, seed: int, images: int = 4, size: int = 8) -> torch.Tensor:
    """Supports [T, k, 1, S, S]: even tasks have their spot on the left, odd ones on the right."""
    rng = torch.Generator().manual_seed(seed)
    side = torch.tensor([0.25, 0.75]).repeat(tasks // 2)
    centre = torch.stack([side, 0.3 + 0.4 * torch.rand(tasks, generator=rng)], 1)[:, None]
    centre = centre + 0.03 * torch.randn(tasks, images, 2, generator=rng)
    axis = torch.linspace(0, 1, size)
    square = (axis - centre[..., :1])[..., None, :] ** 2 + (axis - centre[..., 1:])[..., :, None] ** 2
    return (-square / 0.03).exp()[:, :, None]


@pytest.fixture
def learner():
    torch.manual_seed(0)
    return MAML(tiny_vae(), steps=3, rate=0.05).requires_grad_(False)


@pytest.mark.parametrize("way", [*WAYS, "pixels"])
def test_planted_groups_are_recovered(learner, way):
    made = Pixels(3) if way == "pixels" else embeddings[way](learner, dims=3)
    groups = ["left", "right"] * 15
    found = group_precision(made.fit(spots(24, 0)).embed(spots(30, 1)), groups, 5)
    assert found.mean() > 85 > 60 > group_chance(groups).mean()


@pytest.mark.parametrize("name", ["vae", "redraw", "r3"])
@pytest.mark.parametrize("way", WAYS)
def test_the_order_of_a_support_bears_on_nothing(way, name):
    torch.manual_seed(0)
    learner = tiny_learner("maml", name, double=True, steps=2, rate=0.01)
    learner.requires_grad_(False)
    support, order = spots(8, 0).double(), [2, 0, 3, 1]
    made = embeddings[way](learner, dims=2).fit(support)
    there = made.embed(support)
    assert torch.equal(made.embed(support[:, order]), there)
    assert torch.equal(type(made)(learner, dims=2).fit(support[:, order]).embed(support), there)
    assert (there[0] - there[1]).abs().max() > 0.1


@pytest.mark.parametrize("way", WAYS)
def test_which_draw_an_image_is_given_bears_on_nothing(learner, way):
    support, order = spots(8, 0), [2, 0, 3, 1]
    rows = embeddings[way](learner, dims=2).fit(support).rows
    torch.testing.assert_close(rows(support[:, order]), rows(support), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_a_task_is_placed_alike_whoever_is_beside_it(learner, way):
    made = embeddings[way](learner, dims=3).fit(spots(20, 0))
    support = spots(6, 1)
    torch.testing.assert_close(made.embed(support)[2:3], made.embed(support[2:3]), rtol=1e-3, atol=1e-3)


def test_over_the_train_tasks_an_embedding_is_standardised(learner):
    support = spots(24, 0)
    placed = embeddings["gradient"](learner, dims=5).fit(support).embed(support)
    assert placed.shape == (24, 5)
    torch.testing.assert_close(placed.mean(0), torch.zeros(5), rtol=0, atol=1e-4)
    torch.testing.assert_close(placed.std(0), torch.ones(5), rtol=1e-3, atol=0)


def test_the_same_draws_for_every_image_are_those_of_the_first():
    generator = tiny_vae()
    for steps, place in ((None, 1), (3, 3)):
        alike = draw_alike(generator, (0, "x"), [4, 5], 6, steps)["vae"]["latent"]
        own = draw_noise(generator, (0, "x"), [4, 5], 6, steps)["vae"]["latent"]
        one = draw_noise(generator, (0, "x"), [4, 5], 1, steps)["vae"]["latent"]
        assert alike.shape == own.shape
        for image in range(6):
            assert torch.equal(alike.select(place, image), one.select(place, 0))


class TestSupportGradient:
    @pytest.fixture
    def asked(self):
        torch.manual_seed(0)
        generator = tiny_generator("vae").double()
        weights = {name: w.detach().clone() for name, w in generator.named_parameters()}
        noise = generator.noise(4, Draws((1,)))
        return generator, weights, spots(2, 0).double(), {n: x.double() for n, x in noise.items()}

    def test_is_that_of_finite_differences(self, asked):
        generator, weights, support, noise = asked
        names = ["decoder.stem.bias", "encoder.head.weight"] if "encoder.head.weight" in weights else [*weights][:2]
        found = support_gradient(generator, weights, support[0], noise, names)
        assert len(found) == sum(weights[name].numel() for name in names)
        step, expected = 1e-6, []
        for name in names:
            for i in range(weights[name].numel()):
                losses = []
                for sign in (1, -1):
                    moved = {n: w.clone() for n, w in weights.items()}
                    moved[name].view(-1)[i] += sign * step
                    generator.load_state_dict(moved, strict=False)
                    losses.append(generator.support_loss("vae", support[0], noise).item())
                expected.append((losses[0] - losses[1]) / (2 * step))
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-4, atol=1e-5)

    def test_runs_under_vmap_and_is_differentiable(self, asked):
        generator, weights, support, noise = asked
        names = ["decoder.stem.bias"]

        def of(support, weights):
            return support_gradient(generator, weights, support, noise, names)

        each = torch.stack([of(one, weights) for one in support])
        torch.testing.assert_close(vmap(lambda one: of(one, weights))(support), each)
        images = support[0].clone().requires_grad_()
        (slope,) = torch.autograd.grad(of(images, weights).square().sum(), images)
        assert slope.isfinite().all()
        assert slope.abs().max() > 0


class TestClosedForms:
    """Of a quadratic loss with curvature A, whose weights are at 0."""

    @pytest.fixture
    def parts(self):
        rng = torch.Generator().manual_seed(0)
        root = torch.randn(4, 4, generator=rng, dtype=torch.float64)
        return root @ root.T, torch.rand(6, 3, 1, 2, 2, generator=rng, dtype=torch.float64)

    def test_gradient(self, parts):
        curvature, support = parts
        rows = embeddings["gradient"](MAML(Quadratic(curvature), steps=1)).rows(support)
        torch.testing.assert_close(rows, -support.mean(1).flatten(1) @ curvature)

    def test_fisher(self, parts):
        curvature, support = parts
        rows = embeddings["fisher"](MAML(Quadratic(curvature), steps=1)).rows(support)
        torch.testing.assert_close(rows, (support.flatten(2) @ curvature).square().mean(1).sqrt())

    def test_adapted(self, parts):
        curvature, support = parts
        rows = embeddings["adapted"](MAML(Quadratic(curvature), steps=1, rate=0.1)).rows(support)
        torch.testing.assert_close(rows, 0.1 * support.mean(1).flatten(1) @ curvature)

    def test_filtering(self, parts):
        curvature, support = parts
        made = Filtering(MAML(Quadratic(curvature), steps=1, rate=0.1), dims=2, models=2).fit(support)
        means = support.mean(1).flatten(1)
        gaps = 0.1 * means[:2] @ curvature - means[4]
        losses = 0.5 * (gaps @ curvature * gaps).sum(1)
        torch.testing.assert_close(made.rows(support[4:5])[0], losses - losses.mean())


def test_no_stored_model_is_asked_about_the_task_that_it_was_adapted_to(learner, monkeypatch):
    """By the pixels of every set of images that a loss is taken of."""
    train, held_out, asked = spots(8, 0), Episode(0, ("a",) * 4, (0,) * 4, *spots(4, 1, images=8).split(4, 1)), []

    def losses(self, images):
        asked.append(images)
        return (images.flatten(1).sum(1).cos() * torch.arange(1.0, 4.0)[:, None]).sum(1)  # of three models: anything

    monkeypatch.setattr(Filtering, "losses", losses)
    place = Places.of(Filtering(learner, dims=2, models=3), train, held_out)
    assert len(place.train) == 5
    totals = {round(float(images.sum()), 3) for images in asked}
    alien = {round(float(images.sum()), 3) for images in train[:3]}
    assert len(alien) == 3
    assert not totals & alien
    assert totals >= {round(float(images.sum()), 3) for images in train[3:]}


class Planted(Filtering):
    """Filtering of a known matrix of losses: the images of a task say nothing but its number."""

    matrix: torch.Tensor

    def losses(self, images):
        return self.matrix[:, int(images.flatten()[0])]


def test_filtering_recovers_a_planted_low_rank_matrix(learner):
    rng = np.random.default_rng(0)
    models, tasks = rng.normal(size=(10, 2)), rng.normal(size=(40, 2))
    matrix = models @ tasks.T + rng.normal(size=(10, 1)) + rng.normal(size=40)
    made = Planted(learner, dims=6)
    made.matrix = torch.from_numpy(matrix)
    made.stored = Adapted(learner.generator, {}, torch.zeros(10, 1, 1, 8, 8))
    numbers = torch.arange(40.0, dtype=torch.float64)[:, None, None, None, None]
    made.pca = PCA.fitted(made.rows(numbers[:30]), 6)
    found = made.embed(numbers[30:]).numpy()
    assert found.shape == (10, 2)  # the rank, once both means are taken away
    # least squares of the centred losses of each new task on the models' factors, by numpy
    mean = matrix[:, :30].mean(1, keepdims=True) - matrix[:, :30].mean()
    centred = matrix - matrix.mean(0) - mean
    left, lengths, _ = np.linalg.svd(centred[:, :30], full_matrices=False)
    factors = left[:, :2] * lengths[:2] / 29**0.5
    expected = np.linalg.lstsq(factors, centred[:, 30:], rcond=None)[0].T
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-6)
    # and the planted factors of the tasks are a linear map of them
    design = np.c_[found, np.ones(10)]
    rest = tasks[30:] - design @ np.linalg.lstsq(design, tasks[30:], rcond=None)[0]
    assert np.abs(rest).max() < 1e-8


class TestPCA:
    @pytest.mark.parametrize("shape", [(20, 5), (6, 40)])
    def test_is_numpys_singular_value_decomposition(self, shape):
        rows = np.random.default_rng(0).normal(size=shape) * np.linspace(3, 1, shape[1])
        pca = PCA.fitted(torch.from_numpy(rows), 4)
        mean = rows.mean(0)
        _, lengths, basis = np.linalg.svd(rows - mean, full_matrices=False)
        other = np.random.default_rng(1).normal(size=(3, shape[1]))
        np.testing.assert_allclose(pca.scale, lengths[:4] / (shape[0] - 1) ** 0.5)
        np.testing.assert_allclose(np.abs(pca.basis), np.abs(basis[:4]), atol=1e-9)
        np.testing.assert_allclose(
            np.abs(pca(torch.from_numpy(other))), np.abs((other - mean) @ basis[:4].T), atol=1e-9
        )

    def test_keeps_no_direction_that_does_not_vary(self):
        rows = torch.randn(20, 2) @ torch.randn(2, 9) + 5
        assert PCA.fitted(rows, 6).basis.shape == (2, 9)

    def test_rows_in_half_precision_have_some_too(self):
        rows = torch.randn(20, 9)
        half, whole = (PCA.fitted(each, 2) for each in (rows.bfloat16(), rows.bfloat16().float()))
        assert half.basis.dtype == torch.bfloat16
        torch.testing.assert_close(half.basis, whole.basis.bfloat16())

    @pytest.mark.parametrize(
        ("rows", "said"),
        [(torch.ones(4, 3), "all alike"), (torch.ones(1, 3), "got 1"), (torch.full((4, 3), torch.nan), "not finite")],
    )
    def test_refuses_rows_that_say_nothing(self, rows, said):
        with pytest.raises(MetagenError, match=said):
            PCA.fitted(rows, 2)


class Coded(VAE):
    """A VAE that has a code of a support: its mean, darkest and brightest pixel."""

    def embed(self, support):
        return torch.stack([support.mean(), support.amin(), support.amax()])


def test_generative_is_the_generators_own_code():
    learner = MAML(Coded(size=8, latent=2, widths=(4, 8)), steps=1)
    support = torch.rand(20, 3, 1, 8, 8)
    made = embeddings["generative"](learner)
    codes = torch.stack([support.mean((1, 2, 3, 4)), support.flatten(1).amin(1), support.flatten(1).amax(1)], 1)
    torch.testing.assert_close(made.rows(support), codes)
    assert made.fit(support).embed(support).shape == (20, 3)


def test_ways_refuse_a_model_that_cannot(learner):
    with pytest.raises(MetagenError, match="VAE has no code of a support"):
        embeddings["generative"](learner)
    still = Joint(tiny_vae(), test_steps=0), Amortised(tiny_generator("redraw"))
    for way in ("adapted", "filtering"):
        for each in still:
            with pytest.raises(MetagenError, match="takes no inner step"):
                embeddings[way](each)
    with pytest.raises(MetagenError, match="no weight of the player generator"):
        embeddings["gradient"](tiny_learner("maml", "r3"), params=("discriminator.*",))
    with pytest.raises(MetagenError, match="dims: expected 1 or more"):
        embeddings["gradient"](learner, dims=0)
    blind = tiny_learner("maml", "sngan").requires_grad_(False)  # its hinge loss hears of no real image
    with pytest.raises(MetagenError, match="all alike"):
        embeddings["gradient"](blind).fit(spots(6, 0))


class TestScores:
    groups = ("a", "a", "a", "b", "b", "c", "a", "b")
    places = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))

    def test_neighbours_as_a_plain_loop_finds_them(self):
        found = group_precision(self.places, self.groups, 3)
        for task, place in enumerate(self.places):
            others = sorted((float((place - x).norm()), other) for other, x in enumerate(self.places) if other != task)
            near = [other for _, other in others[:3]]
            assert nearest(self.places, 3)[task].tolist() == near
            own = sum(self.groups[other] == self.groups[task] for other in near)
            assert float(found[task]) == pytest.approx(100 * own / 3)

    def test_chance_is_the_mean_over_many_random_places(self):
        rng = torch.Generator().manual_seed(1)
        drawn = torch.stack([group_precision(torch.randn(8, 2, generator=rng), self.groups, 3) for _ in range(3000)])
        torch.testing.assert_close(drawn.mean(), group_chance(self.groups).mean(), rtol=0, atol=1.0)
        expected = [100 * (self.groups.count(group) - 1) / 7 for group in self.groups]
        torch.testing.assert_close(group_chance(self.groups), torch.tensor(expected, dtype=torch.float64))

    def test_identity(self):
        moved = self.places + 1e-3
        assert identity(self.places, moved).tolist() == [100] * 8
        assert identity(self.places, moved[[1, 0, 2, 3, 4, 5, 6, 7]]).tolist() == [0, 0, *[100] * 6]

    def test_groups_are_what_stands_before_the_last_slash(self):
        assert [group_of(name) for name in ("Latin/character01", "a/b/c", "person-7")] == ["Latin", "a/b", "person-7"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Tasks left/... and right/..., their split, and an untrained model that names it."""
    root = tmp_path_factory.mktemp("embed")
    names = [f"{('left', 'right')[task % 2]}/task-{task:02d}" for task in range(32)]
    for name, images in zip(names, spots(32, 0, images=6, size=28), strict=True):
        save_pngs(images, root / "tasks" / name)
    split = Split(tuple(names[:16]), tuple(names[16:20]), tuple(names[20:]))
    (root / "split.json").write_text(split.to_json())
    torch.manual_seed(0)
    data = {"task_set": "folder", "size": 28, "channels": 1, "invert": False, "shots": 3, "queries": 3}
    learner = Reptile(tiny_vae(size=28), steps=1, rate=0.01, test_steps=2)
    save_model(root / "export", learner, {"data": data, "split_sha256": split.hash}, split)
    return root


@pytest.fixture
def words(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(embedder, "EmbeddingGAN", partial(EmbeddingGAN, steps=3))
    where = ["--data.root", str(place / "tasks"), "--data.split_file", str(place / "split.json")]
    return ["embed", "--model", str(place / "export"), "--out", "map", "--extractor", "none", "--dims", "3", *where]


def test_the_verb_writes_places_scores_and_a_map(words, tmp_path, capsys):
    assert main([*words, "--ways", *WAYS, "--seed", "1"]) == 0
    out = capsys.readouterr().out
    result = json.loads((tmp_path / "map/embeddings.json").read_text())
    assert [row["row"] for row in result["rows"]] == [*WAYS, "pixels"]
    assert [row["row"] for row in result["differences"]] == [f"{way} - pixels" for way in WAYS]
    assert result["chance"] == {"group": pytest.approx(100 * 5 / 11), "identity": pytest.approx(100 / 12)}
    assert (result["tasks"], result["train_tasks"], result["shots"], result["neighbours"]) == (12, 16, 3, 5)
    assert (result["seed"], result["split"], len(result["model"]["weights_sha256"])) == (1, "test", 64)
    tensors = load_file(tmp_path / "map/embeddings.safetensors")
    for row in result["rows"]:
        name, figures = row["row"], row["figures"]
        assert tensors[f"{name}/tasks"].shape == tensors[f"{name}/again"].shape == (12, row["dims"])
        assert row["train_tasks"] == (8 if name == "filtering" else 16)  # half of so few are adapted to, and stored
        assert tensors[f"{name}/train"].shape == (row["train_tasks"], row["dims"])
        assert figures["group"]["mean"] > 60 > result["chance"]["group"]
        assert row["priors"].keys() == {"gan", "gaussian", "train_tasks"}
        assert all(text in out for text in distances(row["priors"]))
        found = group_precision(tensors[f"{name}/tasks"], result["groups"], 5)
        assert figures["group"]["mean"] == pytest.approx(float(found.mean()))
        names = result["names"]["test"]
        near = [names[other] for other in nearest(tensors[f"{name}/tasks"], 5)[0].tolist()]
        assert result["nearest"][name][names[0]] == near
        assert name in out
        # of two groups resampled, 2.5 % are well within the quarter of resamples that hold one alone, twice
        means = [float(found[[of == group for of in result["groups"]]].mean()) for group in ("left", "right")]
        assert (figures["group"]["low"], figures["group"]["high"]) == pytest.approx((min(means), max(means)))
    assert "chance" in out
    with Image.open(tmp_path / "map/embedding.png") as picture:
        assert picture.width > 800


def test_the_seed_decides_everything(words, tmp_path):
    for out in ("map", "again"):
        assert main([*[out if word == "map" else word for word in words], "--ways", "adapted", "--limit", "6"]) == 0
    one, other = ((tmp_path / out / "embeddings.json").read_bytes() for out in ("map", "again"))
    assert one == other


def test_tasks_without_groups_are_scored_by_themselves_alone(exported, blobs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(embedder, "EmbeddingGAN", partial(EmbeddingGAN, steps=3))
    where = ["--data.root", str(blobs / "tasks"), "--data.split_file", str(blobs / "split.json"), "--extractor", "none"]
    assert main(["embed", "--model", str(exported), "--out", str(tmp_path / "map"), "--ways", "gradient", *where]) == 0
    result = json.loads((tmp_path / "map/embeddings.json").read_text())
    assert result["chance"].keys() == result["rows"][0]["figures"].keys() == {"identity"}
    assert "same group" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--ways", "gradeint"], "unknown embedding 'gradeint': did you mean gradient?"),
        (["--ways", "generative"], "generative: VAE has no code of a support"),
        (["--ways", "adapted", "--steps", "0"], "Reptile takes no inner step"),
        (["--split", "train"], "split: expected one of val, test, got 'train'"),
        (["--data.queries", "2"], "embedded twice, by 3 shots and as many others; got 2"),
        (["--data.shots", "4", "--data.queries", "4"], "need 8 images a task"),
        (["--limit", "2"], "limit: expected 3 or more, got 2"),
        (["--limit", "0"], "limit: expected 3 or more, got 0"),
        (["--fitted_on", "0"], "fitted_on: expected 4 or more, got 0"),
        (["--fitted_on", "1"], "fitted_on: expected 4 or more, got 1"),
        (["--extractor", "nowhere"], "nowhere"),
        (["--dims", "0"], "dims: expected 1 or more, got 0"),
        (["--way", "gradient"], "unknown option --way: did you mean --ways"),
    ],
)
def test_mistakes_are_told_in_one_line(words, tmp_path, capsys, more, said):
    assert main([*words, *more]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_model_is_refused_on_tasks_that_it_was_trained_on(place, words, tmp_path, capsys):
    split = json.loads((place / "split.json").read_text())
    turned = Split(tuple(split["test"]), tuple(split["val"]), tuple(split["train"]))
    (tmp_path / "turned.json").write_text(turned.to_json())
    assert main([*words, "--data.split_file", "turned.json"]) == 2
    assert "was trained or chosen on" in capsys.readouterr().err


def test_what_stands_there_is_kept(words, tmp_path, capsys):
    (tmp_path / "map").mkdir()
    (tmp_path / "map/mine").write_text("mine")
    assert main(words) == 2
    assert "exists and is not empty" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 2
    (tmp_path / "map/mine").unlink()
    for _ in range(2):
        assert main([*words, "--overwrite"]) == 0
    assert {path.name for path in (tmp_path / "map").iterdir()} == {
        "embedding.png",
        "embeddings.json",
        "embeddings.safetensors",
    }
