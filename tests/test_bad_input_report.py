"""What `senca report` answers where something lacks: a page, or an error that says what is missing."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from report.html_page import Page
from report.study_folder import PATIENTS, Fails, Section, make_benchmark, make_search, make_study

from senca_ray import keys
from senca_ray.analysis.embeddings import keep_embeddings
from senca_ray.analysis.results import tables_current, write_tables
from senca_ray.cli import app
from senca_ray.lock import held
from senca_ray.options import BAD_INPUT, guarded
from senca_ray.report import html, wandb_publisher
from senca_ray.report.wandb_publisher import PublishOutcome

PAIR = (Section("A1", "A"), Section("B1", "B"))
TWO = {f"neighbors={n}": {"neighbors": n} for n in (4, 8)}
METHODS = {("senca", "ward"): 0.7, ("smoothed-pca", "kmeans"): 0.6, ("coordinates", "kmeans"): 0.3}
Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def no_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")


def grid(folder: Path, cohort: tuple[Section, ...] = PAIR, **how: object) -> Path:
    given = {"variants": TWO, "seeds": 2, "side": 8, "fails": lambda sample, setting: False} | how
    return unlearnt(make_study(folder, cohort, **given))  # type: ignore[arg-type]


def benchmark(folder: Path, cohort: tuple[Section, ...] = PAIR, **how: object) -> Path:
    given = {"methods": METHODS, "seeds": 2, "side": 8} | how
    return unlearnt(make_benchmark(folder, cohort, **given))  # type: ignore[arg-type]


def search(folder: Path, cohort: tuple[Section, ...] = PATIENTS[:3], **how: object) -> Path:
    given = {"suggestions": 6, "seeds": 2, "side": 8} | how
    return unlearnt(make_search(folder, cohort, **given))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished grid; not to be touched."""
    return grid(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def study(whole: Path, tmp_path: Path) -> Path:
    """A finished grid."""
    return Path(shutil.copytree(whole, tmp_path / "study"))


def unlearnt(study: Path) -> Path:
    """Without embeddings, whose UMAP takes long."""
    shutil.rmtree(study / keys.EMBEDDING_FOLDER, ignore_errors=True)
    return study


def partial(study: Path, trials: int, of: int = 99) -> Path:
    """The study as it was when so many of its trials had ended, in the order of its journal."""
    description = json.loads((study / keys.STUDY_FILE).read_text()) | {"trials": of}
    (study / keys.STUDY_FILE).write_text(json.dumps(description))
    path, kept = study / keys.JOURNAL_FILE, {}
    for line in path.read_text().splitlines(keepends=True):
        row = json.loads(line)
        kept.setdefault((row[keys.METHOD], row[keys.SETTING], row[keys.SAMPLE]), []).append(line)
    path.write_text("".join(line for lines in list(kept.values())[:trials] for line in lines))
    for name in (keys.RESULTS_FILE, keys.REGIONS_FILE, keys.SUMMARY_FILE):
        (study / name).unlink()
    return study


class Answer:
    """What the command said."""

    def __init__(self, study: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            guarded(lambda: app(["report", str(study)]))
        self.code = ended.value.code or 0
        said = capsys.readouterr()
        self.text, self.error = said.out, " ".join(said.err.split())
        assert "Traceback" not in said.out + said.err
        self._page = study / keys.REPORT_FILE

    @property
    def page(self) -> Page:
        assert (self.code, self.error) == (0, "")
        return Page(self._page)

    @property
    def problem(self) -> str:
        assert self.code == BAD_INPUT and self.error.startswith("error: ")
        assert not self._page.exists(), "an error leaves no page behind"
        return self.error


Ask = Callable[[Path], Answer]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    return lambda study: Answer(study, capsys)


# --- No results, or not all of them ---------------------------------------------------------------------


@pytest.mark.parametrize("journal", [None, "", '{"study": "made'])
def test_a_study_without_results(study: Path, ask: Ask, journal: str | None) -> None:
    partial(study, 0)
    (study / keys.JOURNAL_FILE).unlink()
    if journal is not None:
        (study / keys.JOURNAL_FILE).write_text(journal)
    problem = ask(study).problem
    assert f"senca resume {study}" in problem
    assert "no results yet" in problem or "no such file" in problem


@pytest.mark.parametrize("content", [None, "{", '{"schema": 0}'])
def test_a_folder_that_is_no_study(tmp_path: Path, ask: Ask, content: str | None) -> None:
    if content is not None:
        (tmp_path / keys.STUDY_FILE).write_text(content)
    assert keys.STUDY_FILE in ask(tmp_path).problem


def test_a_line_of_the_journal_is_damaged(study: Path, ask: Ask) -> None:
    partial(study, 4)
    with (study / keys.JOURNAL_FILE).open("a") as journal:
        journal.write("{}\n")
    assert "is not a result row; remove this line" in ask(study).problem


def test_a_page_of_the_trials_that_have_ended(tmp_path: Path, ask: Ask) -> None:
    study = partial(benchmark(tmp_path), 3)
    answer = ask(study)
    assert "3 of 99 trials" in answer.page.text
    assert "Partial: 3 of 99 trials" in answer.text
    assert "not published: partial results" in answer.text
    assert str(study / keys.JOURNAL_FILE) in answer.text
    assert not (study / keys.RESULTS_FILE).exists(), "to others it would seem to have finished"


def test_a_page_while_the_study_runs(study: Path, ask: Ask) -> None:
    partial(study, 1)
    before = (study / keys.JOURNAL_FILE).read_bytes()
    with held(study):
        assert "1 of 99 trials" in ask(study).page.text
    assert (study / keys.JOURNAL_FILE).read_bytes() == before


def test_a_study_that_finishes_meanwhile_keeps_its_own_page(
    study: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it writes at its end is of all trials; a page begun before must not take its place."""
    journal = (study / keys.JOURNAL_FILE).read_bytes()
    partial(study, 3, of=12)
    draw = html.write_report

    def late(folder: Path) -> Path:
        page = draw(folder)
        (study / keys.JOURNAL_FILE).write_bytes(journal)
        write_tables(study)
        return page

    monkeypatch.setattr(html, "write_report", late)
    answer = ask(study)
    assert "finished meanwhile" in answer.text and "of 12 trials" not in answer.page.text


@pytest.mark.parametrize("told", [0, 3])
def test_a_page_of_a_search_that_goes_on(tmp_path: Path, ask: Ask, told: int) -> None:
    study = partial(search(tmp_path), 18)
    selection = json.loads((study / keys.SELECTION_FILE).read_text())
    for fold in selection["folds"]:
        fold |= {"chosen": None, "suggestions": fold["suggestions"][:told]}
    (study / keys.SELECTION_FILE).write_text(json.dumps(selection))
    assert "18 of at most 99 trials" in ask(study).page.text


def test_too_early_for_a_page(tmp_path: Path, ask: Ask) -> None:
    study = partial(grid(tmp_path / "grid", default="neighbors=8"), 1)
    assert "no trial of the default setting, neighbors=8, has ended (1 of 99 trials)" in ask(study).problem
    study = partial(search(tmp_path / "search", select="none"), 5)
    (study / keys.SELECTION_FILE).unlink()
    assert "no suggestion has been told of (5 of at most 99 trials)" in ask(study).problem


def test_a_run_killed_after_its_last_trial_lacks_nothing(study: Path, ask: Ask) -> None:
    names = (keys.RESULTS_FILE, keys.REGIONS_FILE)
    before = [(study / name).read_bytes() for name in names]
    answer = ask(partial(study, 99, of=12))
    assert "artial" not in answer.text and "of 12 trials" not in answer.page.text
    assert [(study / name).read_bytes() for name in names] == before
    assert tables_current(study)


# --- Failures -------------------------------------------------------------------------------------------


HALF: Fails = lambda sample, _: sample == "B1"  # noqa: E731
ALL: Fails = lambda *_: True  # noqa: E731


@pytest.mark.parametrize(("make", "fails"), [(grid, HALF), (grid, ALL), (benchmark, ALL)])
def test_failed_trials_are_told_with_their_reason(tmp_path: Path, ask: Ask, make: Make, fails: Fails) -> None:
    page = ask(make(tmp_path, fails=fails)).page
    assert "loss is not finite" in page.text


# --- Small and bare cohorts -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "cohort", "seeds"),
    [(grid, PAIR[:1], 2), (grid, PAIR, 1), (grid, PAIR[:1], 1), (benchmark, PAIR[:1], 1)],
    ids=["a sample", "a seed", "both", "both in a benchmark"],
)
def test_one_of_them(tmp_path: Path, ask: Ask, make: Make, cohort: tuple[Section, ...], seeds: int) -> None:
    page = ask(make(tmp_path, cohort, seeds=seeds)).page
    assert all(section.sample in page.text for section in cohort)


def test_a_search_on_one_patient_with_one_seed(tmp_path: Path, ask: Ask) -> None:
    assert "A1" in ask(search(tmp_path, PATIENTS[:1], select="none", seeds=1)).page.text


BARE = replace(PAIR[1], image=False, label_source=keys.UNLABELLED)


@pytest.mark.parametrize(
    ("make", "cohort"),
    [
        (grid, (replace(PAIR[0], image=False),)),
        (grid, (replace(PAIR[0], label_source=keys.UNLABELLED),)),
        (grid, (PAIR[0], BARE)),
        (benchmark, (BARE,)),
    ],
    ids=["no image", "no labels", "one has both", "a benchmark of neither"],
)
def test_sections_without_image_or_labels(
    tmp_path: Path, ask: Ask, make: Make, cohort: tuple[Section, ...]
) -> None:
    page = ask(make(tmp_path, cohort)).page
    assert cohort[-1].sample in page.text


# --- Files that are gone or damaged ---------------------------------------------------------------------


@pytest.mark.parametrize("gone", ["A1", "*"], ids=["one", "all"])
def test_shards_are_gone(tmp_path: Path, ask: Ask, gone: str) -> None:
    study = grid(tmp_path)
    for shard in (tmp_path / "shards").glob(f"{gone}-*"):
        shutil.rmtree(shard)
    page = ask(study).page
    assert "senca prepare" in page.text


@pytest.mark.parametrize("name", [keys.RESULTS_FILE, keys.REGIONS_FILE])
@pytest.mark.parametrize("journal", [True, False])
def test_a_damaged_table(study: Path, ask: Ask, name: str, journal: bool) -> None:
    content = (study / name).read_bytes()
    (study / name).write_bytes(content[: len(content) // 2])
    if not journal:
        (study / keys.JOURNAL_FILE).unlink()
    problem = ask(study).problem
    assert f"{study / name}: cannot be read as a table" in problem
    assert (f"senca resume {study}" in problem) is journal and ("from a copy" in problem) is not journal


def test_tables_of_a_copied_study_need_no_journal(study: Path, ask: Ask) -> None:
    (study / keys.JOURNAL_FILE).unlink()
    assert "A1" in ask(study).page.text


def test_a_damaged_selection(tmp_path: Path, ask: Ask) -> None:
    study = search(tmp_path, PATIENTS[:1], select="none")
    (study / keys.SELECTION_FILE).write_text("{")
    assert keys.SELECTION_FILE in ask(study).problem


def test_a_damaged_portrait_is_made_again(study: Path, ask: Ask) -> None:
    before = ask(study).page
    portrait = study / keys.PORTRAIT_FOLDER / "A1.parquet"
    portrait.write_bytes(b"PAR1 not any more")
    assert ask(study).page.source == before.source


def test_a_damaged_embedding_costs_its_pictures_only(
    tmp_path: Path, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    study = make_study(tmp_path, PAIR[:1], variants=TWO, seeds=2, side=8, fails=lambda *_: False)
    for path in (study / keys.EMBEDDING_FOLDER).glob("*.parquet"):
        path.write_bytes(b"PAR1 not any more")
    assert "A1" in ask(study).page.text
    assert "not an embedding" in caplog.text


def test_a_damaged_embedding_does_not_end_a_search(tmp_path: Path) -> None:
    study = make_search(tmp_path, PATIENTS[:1], select="none", suggestions=6, side=6)
    next((study / keys.EMBEDDING_FOLDER).glob("*.parquet")).write_bytes(b"PAR1 not any more")
    keep_embeddings(study, {keys.DEFAULT})


# --- The disk, and W&B ----------------------------------------------------------------------------------


def test_no_disk_for_the_page(study: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_text

    def full(path: Path, content: str, encoding: str | None = None) -> int:
        if keys.REPORT_FILE not in path.name:
            return write(path, content, encoding)
        write(path, content[:1000], encoding)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    problem = ask(study).problem
    assert not [path for path in study.iterdir() if keys.REPORT_FILE in path.name]
    assert keys.REPORT_FILE in problem and "No space left on device" in problem and "free space" in problem


@pytest.mark.parametrize("mode", ["offline", "failed"])
def test_a_page_without_wandb(
    study: Path, tmp_path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    reason = "W&B cannot be reached (401: the API key has expired)"
    outcome = PublishOutcome(mode, folder=tmp_path / "run", reason=reason)  # type: ignore[arg-type]
    monkeypatch.setattr(wandb_publisher, "publish", lambda *_: outcome)
    answer = ask(study)
    assert "A1" in answer.page.text and reason in answer.text
