from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer
import yaml
from her2st_folder import write_section
from study.search_toys import cohort, toy_search
from tiny_study import failed, trial_rows, write_study
from toys import grid as positions
from toys import toy_content, toy_section
from typer.testing import CliRunner

from senca_ray import keys
from senca_ray.analysis.results import Journal
from senca_ray.analysis.rows import SCHEMA
from senca_ray.cli_plan import plan
from senca_ray.cloud.cluster_file import ClusterFile, NodeType
from senca_ray.cloud.estimate import (
    Fleet,
    fleet_problems,
    fleets,
    hourly,
    makespan,
    most_machines,
    offer,
    slots_of,
    wall,
    work_of,
)
from senca_ray.cloud.planned import SUGGESTIONS, Planned, config_of, planned_trials, to_measure
from senca_ray.cloud.seconds import CPU, GPU, Measured, Seconds, measure
from senca_ray.config import Setting
from senca_ray.data.shards import write_shard
from senca_ray.errors import ProblemsError
from senca_ray.study import grid
from senca_ray.study.run_trial import run_trial
from senca_ray.study.trial import Trial

SETTING = Setting(hvgs=30, embedding=8, hidden=8, bottleneck=4, epochs=2)


def sweep(**changes: Any) -> grid.Grid:
    given: dict[str, Any] = {
        "name": "s",
        "title": "A sweep",
        "vary": "neighbors",
        "values": (4, 8),
        "setting": SETTING,
        "seeds": (0, 1, 2),
    }
    return grid.sweep(**given | changes)


def node(name: str = "worker", **changes: Any) -> NodeType:
    given: dict[str, Any] = {
        "name": name,
        "instance": name,
        "spot": False,
        "cpus": 4,
        "gpus": 0,
        "max_workers": 4,
        "price": 0.5,
        "config": {},
    }
    return NodeType(**given | changes)


def cluster(*workers: NodeType, **changes: Any) -> ClusterFile:
    given: dict[str, Any] = {
        "path": Path("cluster.yaml"),
        "name": "c",
        "provider": "aws",
        "region": "r",
        "max_workers": 8,
        "head": node("head", cpus=0, max_workers=0, price=0.1),
        "workers": workers,
        "storage": None,
        "raw": {},
    }
    return ClusterFile(**given | changes)


def fit(seconds: float | None, spots: int = 100, **changes: Any) -> dict[str, Any]:
    """A result row of the model at `SETTING`."""
    return (
        dict.fromkeys(SCHEMA.names)
        | {
            keys.STUDY: "s",
            keys.METHOD: "senca",
            keys.SETTING: "neighbors=4",
            keys.SAMPLE: f"A{spots}",
            keys.SEED: 0,
            keys.CLUSTERING: "ward",
            keys.K_POLICY: "labels",
            keys.PROTOCOL: keys.UNSCORED,
            keys.STATUS: keys.OK,
            keys.MODALITY: keys.RNA,
            keys.FORM: keys.EXACT,
            keys.DEVICE: "cpu",
            keys.FINGERPRINT: f"of {spots}",
            keys.CONFIG: config_of("senca", SETTING),
            keys.N_SPOTS: spots,
            keys.SECONDS: seconds,
            keys.PEAK_MEMORY_MB: 700.0,
        }
        | changes
    )


def measured(*rows: dict[str, Any]) -> Measured:
    return Measured(pd.DataFrame(rows))


def trial(spots: int = 100, modality: str = keys.RNA, **changes: Any) -> Planned:
    made = Trial("s", "senca", "neighbors=4", SETTING, "T1", "nowhere", (0, 1, 2), sweep().protocol)
    return Planned(dataclasses.replace(made, **changes), spots, modality)


# --- Seconds ------------------------------------------------------------------------------------------


def test_a_plan_from_a_studys_own_rows_adds_up_to_them(tmp_path: Path) -> None:
    shards = {}
    for name, columns in (("A", 8), ("B", 10)):
        section = toy_section(tmp_path / name, columns=columns)
        section = dataclasses.replace(section, files=dataclasses.replace(section.files, sample=name))
        shards[name] = str(write_shard(tmp_path / "shards", toy_content(section)))
    study = sweep(controls=("smoothed-pca",))
    rows = [row for each in study.trials(shards) for row in run_trial(each)]
    frame = pd.DataFrame(rows).reindex(columns=SCHEMA.names)
    work = work_of(planned_trials(study, shards), Measured(frame), gpu=False)
    assert sum(t.expected for t in work.trials) == pytest.approx(frame[keys.SECONDS].sum())
    assert len(work.trials) == study.most_trials(shards) == 6
    own = frame[(frame[keys.SETTING] == "neighbors=8") & (frame[keys.SEED] != keys.ALL_SEEDS)]
    (line,) = (line for line in work.lines if line.setting == "neighbors=8")
    assert line.a_fit is not None
    assert line.a_fit.expected * line.fits == pytest.approx(own[keys.SECONDS].sum())
    assert not any(line.missing or line.unread for line in work.lines)


@pytest.mark.parametrize(("spots", "expected"), [(100, 2.0), (200, 4.0), (150, 3.0), (50, 1.0), (400, 8.0)])
def test_seconds_lie_between_the_sizes_measured_and_grow_with_the_spots_beyond(
    spots: int, expected: float
) -> None:
    known = measured(fit(1.0), fit(3.0, seed=1), fit(4.0, 200))
    quote = known.quote(trial(spots), gpu=False)
    assert quote is not None
    assert quote.seconds.expected == pytest.approx(expected)
    assert quote.seconds.low <= quote.seconds.expected <= quote.seconds.high
    # Quartiles of 1/2, 3/2 and 4/4.
    assert (quote.seconds.low, quote.seconds.high) == pytest.approx((0.75 * expected, 1.25 * expected))


def test_a_setting_goes_by_its_own_fits_else_by_others_and_says_so() -> None:
    other = config_of("senca", dataclasses.replace(SETTING, epochs=4))
    known = measured(fit(1.0), fit(5.0, setting="epochs=4", config=other))
    own = known.quote(trial(), gpu=False)
    new = known.quote(trial(setting=dataclasses.replace(SETTING, epochs=3)), gpu=False)
    suggested = known.quote(trial(label=SUGGESTIONS), gpu=False)
    assert own is not None and new is not None and suggested is not None
    assert (own.seconds.expected, own.other_setting) == (1.0, False)
    assert (new.seconds.expected, new.other_setting) == (3.0, True)
    assert (suggested.seconds.expected, suggested.other_setting) == (3.0, False)


def test_what_no_fit_tells_is_not_made_up() -> None:
    known = measured(fit(1.0), fit(None, method="pca", status=keys.FAILED))
    assert known.quote(trial(method="pca"), gpu=False) is None
    assert known.quote(trial(modality=keys.RNA_IMAGE), gpu=False) is None
    assert known.quote(trial(10_000), gpu=False) is None  # the large form
    work = work_of([trial(), trial(10_000)], known, gpu=False)
    (line,) = work.lines
    assert (line.trials, line.missing, line.fits) == (2, 1, 6)
    assert [t.expected for t in work.trials] == [3.0]


def test_a_gpu_is_measured_on_a_gpu_and_a_core_on_a_core() -> None:
    known = measured(fit(8.0), fit(2.0, device="cuda", seed=1))
    on_gpu, on_core = known.quote(trial(), gpu=True), known.quote(trial(), gpu=False)
    assert on_gpu is not None and on_core is not None
    assert (on_gpu.seconds.expected, on_gpu.device) == (2.0, GPU)
    assert (on_core.seconds.expected, on_core.device) == (8.0, CPU)
    stand_in = measured(fit(8.0)).quote(trial(), gpu=True)
    assert stand_in is not None and stand_in.device == CPU
    assert measured(fit(2.0, device="cuda")).quote(trial(), gpu=False) is None


def test_further_readings_count_without_the_embedding() -> None:
    def two_readings(method: str, first: float, second: float) -> list[dict[str, Any]]:
        return [fit(first, method=method), fit(second, method=method, k_policy="auto")]

    # The embedding takes the model 5 s; clustering takes both 1 s and 3 s.
    known = measured(*two_readings("senca", 6.0, 8.0), *two_readings("coordinates", 1.0, 3.0))
    seconds = {one.method: (one.seconds, one.readings) for one in known.fits}
    assert seconds == {"senca": (9.0, 2), "coordinates": (4.0, 2)}


def test_combining_the_seeds_counts_once_a_trial() -> None:
    known = measured(fit(1.0), fit(0.5, seed=keys.ALL_SEEDS, clustering=keys.CONSENSUS))
    assert [t.expected for t in work_of([trial()], known, gpu=False).trials] == [3.5]
    assert [t.expected for t in work_of([trial(seeds=(0,))], known, gpu=False).trials] == [1.0]


def test_measuring_now_fits_every_method_and_setting_once_a_size(toy_shard: str) -> None:
    study = sweep(controls=("coordinates",))
    planned = [
        dataclasses.replace(one, spots=spots)
        for one in planned_trials(study, {"T1": toy_shard})
        for spots in (48, 20, 90, 10)
    ]
    fits = to_measure(study, planned)
    assert {one.trial.seeds for one in fits} == {(0,)}
    assert [(one.trial.method, one.trial.setting.neighbors, one.spots) for one in fits] == [
        ("senca", 4, 20),
        ("senca", 4, 90),
        ("senca", 8, 20),
        ("senca", 8, 90),
        ("coordinates", 4, 20),
        ("coordinates", 4, 90),
    ]
    said: list[str] = []
    rows, share = measure(fits[-1:], gpu=False, told=said.append)
    assert 0 <= share < 2 and len(said) == 2
    assert Measured(rows).quote(planned[-1], gpu=False) is not None


# --- Trials -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"select": "none"},
        {"select": "loo-patient"},
        {"select": "test-patients", "test": ("P3",)},
        {"select": "loo-patient", "suggestions": 5},
    ],
)
def test_a_search_is_planned_with_as_many_trials_as_it_says(tmp_path: Path, changes: dict[str, Any]) -> None:
    shards = cohort(tmp_path, {"A1": "P1", "A2": "P1", "B1": "P2", "C1": "P3"})
    search = toy_search(**changes)
    planned = planned_trials(search, shards)
    assert len(planned) == search.most_trials(shards)


def test_a_search_is_measured_at_both_ends_of_its_space(tmp_path: Path) -> None:
    search = toy_search(controls=())
    (default, quick, slow) = to_measure(search, planned_trials(search, cohort(tmp_path, {"A1": "P1"})))
    assert default.trial.setting == search.setting
    for one, epochs, neighbors in ((quick, 2, 2), (slow, 40, 8)):
        assert (one.trial.setting.epochs, one.trial.setting.neighbors) == (epochs, neighbors)


def test_rounds_of_a_search_come_one_after_the_other() -> None:
    trials = [Seconds(10.0, 10.0, 10.0)] * 16
    search = toy_search(suggestions=16, ahead=2)
    assert wall(search, trials, slots=100).expected == 80.0
    assert wall(sweep(), trials, slots=100).expected == 10.0
    assert wall(search, trials, slots=1).expected == 160.0


# --- Machines -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("durations", "slots", "expected"),
    [([3, 3, 2, 2, 2], 2, 7), ([6, 1, 1, 1], 2, 6), ([1] * 5, 4, 2), ([], 3, 0), ([2, 1], 9, 2)],
)
def test_makespan(durations: list[float], slots: int, expected: float) -> None:
    assert makespan(durations, slots) == expected


def test_trials_share_a_gpu_only_where_its_memory_and_theirs_are_known() -> None:
    gpu = node("g5.xlarge", gpus=1, cpus=16)
    assert slots_of(gpu, None) == 1
    assert slots_of(gpu, 9_500.0) == 2  # (9,500 and 500 of its process) twice into 0.9 of 23,028
    assert slots_of(node("unheard-of", gpus=1), 100.0) == 1
    assert slots_of(node("g5.xlarge", gpus=1, cpus=4), 100.0) == 4  # a core each
    assert slots_of(node(), 100.0) == 4


def test_workers_are_of_each_kind_or_mixed_where_no_kind_has_enough() -> None:
    described = cluster(node("a"), node("b", max_workers=2), node("none", cpus=0))
    assert [fleet.name for fleet in fleets(described, 2)] == ["2 x a", "2 x b"]
    assert [fleet.name for fleet in fleets(described, 4)] == ["4 x a"]
    assert [fleet.name for fleet in fleets(described, 5)] == ["4 x a and 1 x b"]
    assert not fleet_problems(described, 6)
    assert fleet_problems(described, 7)
    assert fleet_problems(cluster(node(), max_workers=3), 4)
    assert fleet_problems(cluster(node("none", cpus=0)), 1)


def test_the_guard_is_the_dearest_that_the_file_allows() -> None:
    described = cluster(node("a"), node("b", price=2.0, max_workers=3), max_workers=5)
    assert hourly(described.head, most_machines(described)) == pytest.approx(0.1 + 3 * 2.0 + 2 * 0.5)
    assert hourly(described.head, most_machines(cluster(node(price=None), node("b")))) is None


def test_an_offer_pays_for_start_trials_and_idle_machines_and_for_no_more_than_work() -> None:
    known, described = measured(fit(300.0)), cluster(node(cpus=2), idle_minutes=10.0)
    planned = [trial()] * 3  # of 3 x 300 s each
    (fleet,) = fleets(described, 1)
    one = offer(sweep(), planned, known, fleet, described)
    assert one.slots == 2 and one.time.expected == 300 + 2 * 900
    assert one.dollars is not None
    assert one.dollars.expected == pytest.approx((300 + 1800 + 600) / 3600 * (0.5 + 0.1))
    four = offer(sweep(), planned, known, Fleet(((node(cpus=2), 4),)), described)
    assert four.fleet.name == "2 x worker" and four.time.expected == 300 + 900
    assert offer(sweep(), planned, known, Fleet(((node(price=None), 1),)), described).dollars is None


# --- The command --------------------------------------------------------------------------------------

app = typer.Typer(rich_markup_mode=None)
app.command()(plan)
CLUSTER = {
    "cluster_name": "c",
    "max_workers": 4,
    "provider": {"type": "aws"},
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0}, "labels": {"price-per-hour": "0.1"}},
        "small": {"resources": {"CPU": 2}, "max_workers": 4, "labels": {"price-per-hour": "0.5"}},
    },
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder: two raw sections, a study of them, a cluster and an earlier study's results."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SENCA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    section, spots = toy_section(tmp_path / "toy"), positions(8, 6).astype(int) + 1
    for sample in ("A1", "B1"):
        labels = section.labels
        assert labels is not None
        write_section(
            tmp_path / "raw",
            sample,
            spots.tolist(),
            section.counts.toarray(),
            labels,
            section.genes,
            image=False,
        )
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(CLUSTER))
    study = {"name": "s", "sweep": {"vary": "neighbors", "values": [4, 8]}, "seeds": 2}
    study |= {"setting": dataclasses.asdict(SETTING), "cohort": {"data": "raw", "format": "her2st"}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    Journal(tmp_path / "before").append([fit(2.0, regions=[0], encoder="none", versions="{}", **BLOCK)])
    return tmp_path


BLOCK = {keys.PATIENT: "P", keys.LABEL_SOURCE: keys.ANNOTATED, keys.K: 2, keys.N_SCORED: 9}


def run(*options: str) -> Any:
    return CliRunner().invoke(app, options)


def test_plan_from_an_earlier_study(here: Path) -> None:
    result = run("study.yaml", "--workers", "2", "--measured", "before")
    assert result.exit_code == 0, result.output
    said = result.output
    assert "2 of raw" in said and "2 not prepared yet" in said and "100 spots each" in said
    assert "trials    10: 4 of senca, 6 of other methods" in said
    assert "measured  1 fit of before" in said
    (line,) = (
        line.split() for line in said.splitlines() if "neighbors=4" in line and line.startswith("senca")
    )
    assert line[2:5] == ["2", "4", "2.0"]
    assert "not measured, so in no figure here: untrained" in said
    assert "taken from fits of the same method at other settings: senca neighbors=8" in said
    assert "at most $2.10 an hour, head and 4 x small" in said
    assert not (here / "cache" / "shards").exists()


def test_plan_measures_where_it_is_told_nothing(here: Path) -> None:
    from senca_ray.cohort import Cohort
    from senca_ray.data.prepare import find_sections
    from senca_ray.data.shards import shard_name
    from senca_ray.data.stages import Recipe, fingerprint

    # One section is prepared: it is measured on.
    recipe = Recipe(Cohort().prepare, {}, "unused")
    files = find_sections(here / "raw", "her2st")[0]
    content = toy_content(toy_section(here / "toy"))
    digest = fingerprint(files, recipe)
    content = dataclasses.replace(
        content, meta=content.meta | {"sample": files.sample, "fingerprint": digest}
    )
    made = write_shard(here / "cache" / "shards", content)
    assert made.name == shard_name("A1", digest)
    result = run("study.yaml", "--workers", "2")
    assert result.exit_code == 0, result.output
    assert "5 fits of one seed each, made now on 1 section of the cohort" in result.output
    assert "raw, 48 spots" in result.output and "1 not prepared yet" in result.output
    assert "not measured" not in result.output


def test_a_price_that_is_missing_is_told(here: Path) -> None:
    described = yaml.safe_load((here / "cluster.yaml").read_text())
    del described["available_node_types"]["small"]["labels"]
    (here / "cluster.yaml").write_text(yaml.safe_dump(described))
    result = run("study.yaml", "--workers", "2", "--measured", "before")
    assert result.exit_code == 0, result.output
    assert 'no price in cluster.yaml for small: add labels: {price-per-hour: "..."}' in result.output


def test_everything_wrong_is_told_at_once(here: Path) -> None:
    (here / "study.yaml").write_text("name: s\nsweep: {vary: nothing, values: [1]}\n")
    (here / "cluster.yaml").write_text("provider: {}\n")
    write_study(here / "failed", trial_rows("A1", **failed("boom")))
    result = run("study.yaml", "--workers", "0", "--measured", "none", "--measured", "failed")
    assert isinstance(result.exception, ProblemsError)
    places = [problem.place for problem in result.exception.problems]
    assert places == [
        "study.yaml: vary",
        "cluster.yaml: provider.type",
        "cluster.yaml: head_node_type",
        "--measured",
        "--measured",
        "--workers",
    ]
    assert "every fit failed" in str(result.exception)


def test_more_workers_than_the_file_allows_are_refused(here: Path) -> None:
    result = run("study.yaml", "--workers", "5", "--measured", "before")
    assert isinstance(result.exception, ProblemsError)
    assert "5 found, cluster.yaml allows 4" in str(result.exception)


def test_no_study_file(here: Path) -> None:
    result = run("none.yaml", "--workers", "1", "--measured", "before")
    assert isinstance(result.exception, ProblemsError)
    assert "none.yaml" in str(result.exception)
