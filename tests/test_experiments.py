"""Every experiment and benchmark runs to its end, as small as its options let it, and leaves its result."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from metagen.evaluation.studies import gain
from metagen.generators import TokenVAE, generators
from metagen.generators.tokens import token_vae
from metagen.learners import Amortised, learners
from metagen.model import Model
from metagen.tasks.splits import SPLITS
from tests.projects import PROGRAMS, SCRIPTS, Project, draw_people

LEARNERS = ("joint", "anil")  # of the league


def benchmark_learned_optimiser(project: Project) -> None:
    project.fit(name := "omniglot-vae-learned-optimiser")
    words = ["--limit", 2, "--tuning", 2, "--shots", 2, "--queries", 2, "--out", "results/learned"]
    project.run("benchmarks.learned_optimiser", f"runs/{name}/export", "--root", project.root, *words)
    found = project.read("results/learned/result.json")
    assert {*found["rows"]} <= {*project.table("results/learned/README.md")}
    assert len(found["rows"]) >= 5  # not adapted, learned at two lengths, SGD, Adam
    assert len(found["differences"]) == len(found["rows"]) - 1


def benchmark_everyday(project: Project) -> None:
    words = ["--root", project.root, "--tasks", 3, "--repeats", 1, "--out", "results/performance"]
    project.run("benchmarks.everyday", *words)
    found = project.read("results/performance/everyday.json")
    waits = {**found["commands"], **found["adaptation"]}
    assert len(waits) == 5 + 3 * 2  # commands; three models, one task and many
    assert all(0 < wait["least"] <= wait["median"] <= wait["most"] for wait in waits.values())
    assert found["pipeline"]["share"] > 0


def benchmark_growth(project: Project) -> None:
    project.run("benchmarks.growth", "--networks", "VAE", "--repeats", 1, "--out", "results/performance")
    lines = project.read("results/performance/growth.json")["lines"]
    assert [line["varied"] for line in lines] == ["tasks", "steps", "size", "width"]
    assert all(min(line["seconds"]) > 0 for line in lines)
    assert project.is_picture("results/performance/growth.png")


def benchmark_processes(project: Project) -> None:
    words = ["--tasks", 2, "--steps", 1, "--repeats", 1, "--turns", 1]
    project.run("benchmarks.processes", *words, "--out", "results/performance")
    (turn,) = project.read("results/performance/processes.json")["turns"]
    assert turn["ratio"] == pytest.approx(turn["one"] / turn["two"])


def benchmark_roofline(project: Project) -> None:
    project.run("benchmarks.roofline", "--repeats", 1, "--out", "results/performance")
    rows = project.read("results/performance/roofline.json")["rows"]
    (product,) = (row for row in rows if row["what"].startswith("matrix product"))
    assert product["gflop"] == pytest.approx(2 * 2048**3 / 1e9)
    assert all(row["gflops"] > 0 for row in rows)


def performance_page(project: Project) -> None:
    for benchmark in (
        benchmark_processes,
        benchmark_roofline,
        benchmark_meta_gradients,
        benchmark_growth,
        benchmark_everyday,
    ):
        benchmark(project)
    project.run("experiments.performance_page")
    shown = project.table("results/performance/README.md")
    assert {"metagen", "plain loop", "metagen adapt", "VAE"} <= set(shown)


def benchmark_meta_gradients(project: Project) -> None:
    words = ["--tasks", 2, "--steps", 1, "--repeats", 1, "--out", "results/performance"]
    said = project.run("benchmarks.meta_gradients", *words)
    rows = project.read("results/performance/meta_gradients.json")["rows"]
    ways = {(row["kind"], row["way"]) for row in rows}
    assert len(ways) == len(rows) == len(re.findall(r"([\d.]+) tasks/s", said))
    assert {("Reptile", "plain loop"), ("FOMAML", "vmap by hand"), ("MAML", "metagen, adjoint, loop")} <= ways
    assert all(0 < row["least"] <= row["rate"] <= row["most"] for row in rows)
    peers = {"plain loop", "higher", "TorchOpt", "learn2learn"}
    assert max(row["ratio"] for row in rows if row["kind"] == "MAML" and row["way"] in peers) == pytest.approx(1)


def benchmark_metrics(project: Project) -> None:
    words = ["--tasks", 3, "--images", 5, "--features", 16, "--theirs", 2, "--repeats", 1]
    said = project.run("benchmarks.metrics", *words)
    off = [float(number) for number in re.findall(r"(?:metagen|torchmetrics) ([\d.e+-]+)(?:,|$)", said, re.MULTILINE)]
    assert len(off) == 6  # two ways, three cases
    assert max(off) < 1e-3


def embeddings(project: Project) -> None:
    ways = project.module("experiments.embeddings").WAYS
    project.fit(*ways)
    project.run("experiments.embeddings", "--root", project.root)
    for name, own in ways.items():
        rows = [row["row"] for row in project.read(f"results/embeddings/{name}.json")["rows"]]
        assert set(own) <= set(rows)
        assert set(rows) <= set(project.table("results/embeddings/README.md"))
    assert project.is_picture("results/embeddings/map.png")


def faces(project: Project) -> None:
    draw_people(project.folder / "people", 40, 9)
    project.run("experiments.faces", "--root", project.folder / "people", "--steps", 1, 2, "--extractor_steps", 1)
    names = {row["row"] for row in project.read("runs/faces-league/league.json")["models"]}
    assert {"faces-vae-joint", "faces-vae-maml"} <= names


def large_faces(project: Project) -> None:
    draw_people(project.folder / "people", 16, 9)
    words = ["--size", 64, "--test", 4, "--val", 4, "--steps", 1, 2, "--extractor_steps", 1]
    project.run("experiments.faces", "--root", project.folder / "people", *words)
    names = {row["row"] for row in project.read("runs/faces64-league/league.json")["models"]}
    assert {"faces64-vae-maml", "faces64-redraw", "faces64-redraw-gan"} <= names


def gans(project: Project) -> None:
    script = project.module("experiments.gans")
    project.patch.setitem(script.KINDS, "joint", tuple(1 if word == 20 else word for word in script.KINDS["joint"]))
    for run in (*script.CONTESTANTS, *(f"stability/{kind}-0" for kind in script.KINDS)):
        (project.folder / script.RUNS / run).mkdir(parents=True)
        (project.folder / script.RUNS / run / "cost.json").write_text("0.01")  # seconds of a meta-step, as if measured
    words = ["--seconds", 0.01, "--seeds", 1, "--tasks", 15, "--steps", 1, "--extractor_steps", 1]
    project.run("experiments.gans", "--root", project.root, *words)
    assert list(project.read("results/gans/contest.json")["rows"]) == list(script.CONTESTANTS)
    assert list(project.read("results/gans/practice.json")["rows"]) == list(script.PRACTICE)
    assert list(project.read("results/gans/stability.json")["seeds"]) == ["0"]
    project.run("experiments.gans_page", "--root", project.root)
    assert {*script.CONTESTANTS, *script.PRACTICE, "meta-learned", "scratch"} <= set(
        project.table("results/gans/README.md")
    )
    assert project.is_picture("results/gans/training.png")
    assert project.is_picture("results/gans/samples.png")


def league(project: Project) -> None:
    plans = project.module("experiments.league_plans")
    tuning = ({**plans.VAE.tuning[0], "test_steps": 1},)
    project.patch.setattr(plans, "VAE", replace(plans.VAE, tuning=tuning, head=plans.VAE.head[:1]))
    project.fit("omniglot-vae-joint")
    words = ["--seconds", 0.01, "--seeds", 1, "--tasks", 2, "--pilot", 2, "--pilot_tasks", 2, "--val_tasks", 2]
    words += ["--shots", 5, "--test_tasks", 3, "--curve", 0, 1, "--only", *LEARNERS]
    project.run("experiments.league", "--root", project.root, *words)
    for name in LEARNERS:
        (seed,) = project.read(f"results/league/rows/{name}.json")["seeds"]
        assert "adapted/query_loss" in seed["shots"]["5"]["values"]
    project.run("benchmarks.league_adapting", "--root", project.root)
    taken = project.read("results/league/adapting.json")["median_seconds"]
    assert set(taken) == set(LEARNERS)
    assert min(taken.values()) > 0
    project.run("experiments.league_page", "--root", project.root, "--runs", "runs/league")
    assert {*LEARNERS, "scratch"} <= set(project.table("results/league/README.md"))
    assert project.is_picture("results/league/samples.png")


def league_plans(project: Project) -> None:
    script = project.module("experiments.league_plans")
    for kind, name in ((script.VAE, "vae"), (script.GAN, "gan")):
        assert script.kind_of(name) is kind
        for plan in script.plans(kind).values():
            for cell in plan.grid:
                generator = generators[name](size=28, latent=32, widths=(16, 32), depth=1)
                assert learners[plan.learner](generator, **{**plan.fixed, **cell})
    assert script.kind_of("r3") is script.GAN  # in rows of before it was a preset


def glyph_split(project: Project) -> None:
    project.run("experiments.glyph_split", "--out", "split.json", "--letters", 4)
    split = project.read("split.json")
    assert {"LATIN", "GREEK"} <= {name.partition("/")[0] for name in split["train"]}
    assert all(len(split[part]) > 2 for part in SPLITS)


def seen(project: Project) -> None:
    project.fit("omniglot-vae-joint")
    kept = project.folder / "runs/omniglot-vae-joint/export/seen.json"
    as_exported = kept.read_text()
    kept.unlink()
    project.run("experiments.seen", "--root", project.root, kept.parent)
    assert kept.read_text() == as_exported


def runs(project: Project) -> None:
    script = project.module("experiments.runs")
    words = ["fit", "--config", "configs/omniglot/vae-joint.yaml", "--data.root", project.root, "--run_dir", "runs/a"]
    export = script.made(project.folder / "runs/a/export", words)
    assert (export / "config.json").is_file()
    assert script.made(export, words) == export  # a second fit would refuse the folder
    with pytest.raises(RuntimeError):
        script.made(export, [*words, "--data.episodes", 3])


def meta_generator(project: Project) -> None:
    project.fit("omniglot-vae-joint")
    words = ["--episodes", 2, "--more", 2, "--zoo_tasks", 4, "--tasks", 3]
    project.run("experiments.meta_generator", "--root", project.root, *words)
    script = project.module("experiments.meta_generator")
    assert {*script.TAUGHT, script.REFINED, "the base"} <= set(project.table("results/meta-generator/README.md"))
    assert "nan" not in (project.folder / "results/meta-generator/README.md").read_text()


def results(project: Project) -> None:
    models = ("omniglot-vae-joint", "omniglot-redraw")
    project.fit(*models)
    project.patch.setattr(gain, "STEPS", 2)
    words = ["--data.root", project.root, "--data.queries", 14, "--limit", 3, "--curve", "[]", "--baselines", "false"]
    for name in models:
        project.metagen("evaluate", "--model", f"runs/{name}/export", "--out", f"runs/{name}/evaluation", *words)
    project.metagen(
        *("evaluate", "--model", "runs/omniglot-redraw/export", "--out", "runs/omniglot-redraw/studies", *words),
        *("--metrics", "[gain, cost]"),
    )
    joint, redraw = (f"runs/{name}/evaluation/result.json" for name in models)
    words = [joint, redraw, "runs/omniglot-redraw/studies/result.json", "--out", "results/models"]
    project.run("experiments.comparison", *words)
    rows = set(project.table("results/models/README.md"))
    assert {"omniglot-vae-joint: adapted", "omniglot-redraw: adapted - copy", "real", "omniglot-redraw"} <= rows
    words = ["--beside", joint, "--name", "redraw", "--beside_name", "joint", "--out", "results/redraw"]
    project.run("experiments.scorecard", redraw, *words)
    rows = set(project.table("results/redraw/README.md"))
    assert {"people", "copy", "joint", "**redraw**", "redraw - affine x1"} <= rows
    assert project.is_picture("results/redraw/plane.png")


def search(project: Project) -> None:
    script = project.module("experiments.search")
    project.patch.setattr(script, "RANDOM", 1)
    project.run("experiments.search", "--root", project.root, "--searching", 2, "--training", 2, "--tasks", 2)
    found = project.read("results/search/result.json")
    assert set(found["searches"]) == set(script.SEARCHES)
    for part in script.LIMITS:
        assert len(found[part]["query_loss"]) == script.RANDOM + len(script.SEARCHES)


def steps(project: Project) -> None:
    shifts = project.module("experiments.shifts")
    project.patch.setattr(shifts, "PAPERS", {"train": 2, "val": 3, "test": 3})
    project.patch.setattr(shifts, "FEWEST", 3)
    project.patch.setattr(token_vae, "GRID", {"temperature": (1.0,)})  # the choice takes minutes else
    project.run("experiments.shifts", "--root", project.root)
    sizes = {"tokenizer_width": 4, "levels": (3, 3), "width": 8, "heads": 2, "support_blocks": 0, "blocks": 1}
    base = Amortised(TokenVAE(28, **sizes), adapted_params=["cross_attention"], test_steps=0)
    Model(base, {}).save("runs/base")
    words = ["--base", "runs/base", "--seconds", 0.01, "--tasks", 2, "--pilot", 2, "--search_tasks", 2, "--most", 1]
    names = ["fine-tune: biases", "maml"]
    words += ["--tuning_tasks", 3, "--shots", 1, "--test_tasks", 3, "--only", *names]
    program, _ = project.module("experiments.steps"), project.module("experiments.league")  # whose processes it shares
    few = program.places  # no alphabet here is as large as a hand's tasks need
    project.patch.setattr(
        program, "places", lambda *at: {n: p for n, p in few(*at).items() if n in ("omniglot", "digits")}
    )
    project.run("experiments.steps", "--root", project.root, *words)
    project.run("experiments.steps_page")
    assert set(names) <= set(project.table("results/steps/README.md"))
    picture, guidance = project.module("experiments.steps_picture"), project.module("experiments.steps_guidance")
    for module, own in ((picture, {"TASKS": 1, "STEPS": 1}), (guidance, {"STEPS": (0, 1), "SAMPLES": 2})):
        for name, value in {"KINDS": ("digits",), "SHOTS": 2, **own}.items():
            project.patch.setattr(module, name, value)
    project.run("experiments.steps_picture", "--root", project.root, "--out", "steps.png")
    assert (project.folder / "steps.png").is_file()
    project.run("experiments.steps_guidance", "--root", project.root, "--tasks", 2)
    assert "digits" in project.table("results/steps/guidance/README.md")


def likelihood(project: Project) -> None:
    words = ["--tokenizer_episodes", 2, "--prior_episodes", 2, "--set_vae_episodes", 2]
    project.patch.setattr(project.module("metagen.evaluation.studies.log_likelihood"), "SAMPLES", 2)
    project.run("experiments.likelihood", "--root", project.root, *words, "--limit", 3, "--set_vae_limit", 3)
    named = project.table("results/likelihood/README.md")
    assert {"token VAE", "token VAE, over k = 0", "set VAE"} <= set(named)


def domains(project: Project) -> None:
    shifts, program = project.module("experiments.shifts"), project.module("experiments.domains")
    project.patch.setattr(shifts, "PAPERS", dict.fromkeys(SPLITS, 2))
    project.patch.setattr(program, "DRAWS", {"train": 1, "val": 1, "test": 3})
    project.run("experiments.shifts", "--root", project.root)
    project.run("experiments.domains", "--root", project.root, "--given", 2, "--queries", 4, "--steps", 1)
    page = (project.folder / "results/domains/README.md").read_text()
    rows = ("glyphs | no step", "the likelier source | cross-attention", "glyphs | a model of the target")
    assert all(f"| {row} |" in page for row in rows)


def plain_training(project: Project) -> None:
    baselines = project.module("metagen.evaluation.baselines")
    project.patch.setattr(baselines, "SCRATCH_GRID", ((1e-3, 1),))
    project.patch.setattr(baselines, "JOINT_GRID", ((1e-3, 1),))
    project.run("experiments.plain_training", "--root", project.root, "--val", 2, "--limit", 3)
    assert {"meta-learned", "plain", "scratch"} <= set(project.table("results/plain-training/README.md"))


def photographs(project: Project) -> None:
    program = project.module("experiments.photographs")
    project.patch.setattr(program, "SHEETS", 1)
    project.patch.setattr(program, "CONDITIONS", {"all": program.CONDITIONS["all"]})
    project.run("experiments.photographs", "--root", project.root)
    assert program.DRAWN in project.table("results/prepare/README.md")
    assert project.is_picture("results/prepare/example.png")


SMOKE = {
    "comparison": results,
    "embeddings": embeddings,
    "faces": faces,
    "glyph_split": glyph_split,
    "league": league,
    "league_adapting": league,
    "league_page": league,
    "league_plans": league_plans,
    "learned_optimiser": benchmark_learned_optimiser,
    "meta_generator": meta_generator,
    "metrics": benchmark_metrics,
    "pages": league,
    "runs": runs,
    "scorecard": results,
    "search": search,
    "seen": seen,
    "timing": benchmark_metrics,
}
SLOW = {  # in tests/slow
    "domains": domains,
    "faces at 64 px": large_faces,
    "gans": gans,
    "gans_page": gans,
    "everyday": performance_page,
    "growth": performance_page,
    "likelihood": likelihood,
    "meta_gradients": performance_page,
    "peers": performance_page,
    "performance_page": performance_page,
    "photographs": photographs,
    "plain_training": plain_training,
    "processes": performance_page,
    "roofline": performance_page,
    "shifts": steps,
    "steps": steps,
    "steps_guidance": steps,
    "steps_page": steps,
    "steps_picture": steps,
}


def test_every_experiment_and_benchmark_has_a_smoke_test():
    names = {path.stem for path in PROGRAMS}
    assert names - {"how_much_data"} <= SMOKE.keys() | SLOW.keys()  # that one has a file of its own
    assert SMOKE.keys() <= names
    assert {path.suffix for path in SCRIPTS.iterdir() if path.is_file()} == {".sh"}


@pytest.mark.parametrize("smoke", dict.fromkeys(SMOKE.values()), ids=lambda smoke: smoke.__name__)
def test_it_runs(smoke, project):
    smoke(project)
