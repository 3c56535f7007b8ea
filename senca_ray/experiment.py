"""The whole way of an experiment: cohort, shards, trials, results, statistics, report.

`experiments/*.py` and `senca study run` say in a `StudyFile` what they want and call `run_study`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from senca_ray import cluster, keys, lock
from senca_ray.cohort import (
    Cohort,
    check_labels,
    check_unchanged,
    fingerprints,
    prepare_cohort,
    progress_bar,
    simulated,
)
from senca_ray.config import Setting
from senca_ray.data.location import StorageAway, is_remote
from senca_ray.errors import Interrupted, SencaError
from senca_ray.files import write_json
from senca_ray.methods.protocol import Protocol
from senca_ray.mirror import check_study, mirrored, working_folder
from senca_ray.publish import publish
from senca_ray.study.benchmark import Benchmark
from senca_ray.study.grid import Grid, GridPlan
from senca_ray.study.plan import Plan
from senca_ray.study.search import Search
from senca_ray.study.search_plan import SearchPlan
from senca_ray.study.trial import Trial, versions
from senca_ray.watch import NodeLost, watched

Study = Grid | Search | Benchmark

_LOOK_EVERY = 10.0
"""Seconds after which a search writes anew how far its choices are, for `senca study show`."""


@dataclass(frozen=True)
class _Home:
    """Where a study lives, while this process runs it."""

    out: str
    """As the user names it: its folder or its address."""
    folder: Path
    """Its folder on this machine."""
    check: Callable[[], None]
    """Raises SencaError once another run has the study."""

    @property
    def checkpoints(self) -> str:
        """Where trials, on whatever machine, keep those of long fits."""
        base = self.out if is_remote(self.out) else str(self.folder.resolve())
        return f"{base}/{keys.CHECKPOINT_FOLDER}"


def run_study(study: Study, cohort: Cohort, out: str, *, address: str | None = None) -> None:
    """Run a study over a cohort into `out`, a folder or an address, and report it.

    Where it holds the same study, that is gone on with. Raises SencaError when it holds another one,
    ProblemsError for everything wrong in the cohort, Interrupted when stopped.
    """
    from senca_ray.analysis.description import check_vacant, open_study

    console = Console()
    check_vacant(_folder(out))
    with _at_home(out, console) as home:
        if (home.folder / keys.STUDY_FILE).exists():
            # As far as it shows now: another study is refused before sections are prepared for it.
            open_study(home.folder, _described_so_far(study, cohort), versions())
        if study.protocol.k_policy == "labels":
            check_labels(cohort)
        with cluster.connected(address):
            shards = prepare_cohort(cohort, console, address).shards
            study = _with_ahead(study, home.folder)
            description = _describe(study, cohort, shards)
            open_study(home.folder, description, versions())
            _finish(home, study, shards, console)
    _say_where(out, console)


def resume(out: str, *, address: str | None = None, retry_failed: bool = False) -> None:
    """Finish the study in `out`, running no finished trial again but, if asked for, those that failed.

    Raises SencaError when `out` holds no study, or a search whose failed trials are to be tried again (what
    it suggested since rests on them); ProblemsError when its shards are gone or changed.
    """
    from senca_ray.analysis.description import read_description

    console = Console()
    if is_remote(out):
        check_study(out)
    else:
        read_description(Path(out))
    with _at_home(out, console) as home:
        description = read_description(home.folder)
        study, shards = _described(description), description["shards"]
        if retry_failed and isinstance(study, Search):
            raise SencaError(
                f"{out}: a search cannot try its failed trials again, because what it suggested since rests "
                "on them; start it anew with another --out"
            )
        check_unchanged(shards, description.get("fingerprints", {}))
        with cluster.connected(address):
            _finish(home, study, shards, console, retry_failed)
    _say_where(out, console)


def _folder(out: str) -> Path:
    return working_folder(out.rstrip("/")) if is_remote(out) else Path(out)


@contextmanager
def _at_home(out: str, console: Console) -> Iterator[_Home]:
    """Hold the study in `out` as the one who runs it; one at an address comes here and is mirrored there."""
    folder = _folder(out)
    if not is_remote(out):
        with lock.held(folder):
            yield _Home(out, folder, lambda: None)
        return

    def told(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    folder.mkdir(parents=True, exist_ok=True)
    address = out.rstrip("/")
    told(f"{'study':<8} {address}")
    with lock.held(folder), mirrored(address, folder, told) as check:
        yield _Home(address, folder, check)


def _say_where(out: str, console: Console) -> None:
    if is_remote(out):
        text = f"{'study':<8} {out}: bring it home with `senca pull {out}`"
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def _with_ahead(study: Study, out: Path) -> Study:
    """A search that leaves it open keeps as many suggestions under way as there is room for trials.

    On a cluster that grows, that is the room that it may come to have, at most 256 more than now. What a
    study began with stays: what is suggested depends on it.
    """
    from senca_ray.analysis.description import read_description
    from senca_ray.study.packing import Packing

    if not isinstance(study, Search) or study.ahead is not None:
        return study
    known = read_description(out).get("ahead") if (out / keys.STUDY_FILE).exists() else None
    return dataclasses.replace(study, ahead=known or max(2, Packing().slots()))


def _describe(study: Study, cohort: Cohort, shards: dict[str, str]) -> dict[str, Any]:
    return {
        **_described_so_far(study, cohort),
        "trials": study.most_trials(shards),
        "simulated": simulated(shards),
        "shards": shards,
        "fingerprints": fingerprints(shards),
    }


def _described_so_far(study: Study, cohort: Cohort) -> dict[str, Any]:
    """What is known of a study before its sections are prepared."""
    protocol, own = study.protocol, study.describe()
    if own.get("ahead", 0) is None:
        del own["ahead"]
    return {
        "name": study.name,
        "title": study.title,
        **own,
        "setting": asdict(study.setting),
        "seeds": list(study.seeds),
        "k_policy": protocol.k_policy,
        "clustering": protocol.clustering,
        "pair": list(protocol.pair) if protocol.pair else None,
        "undetermined": protocol.undetermined,
        "refined": protocol.refined,
        "controls": list(study.controls),
        "data": cohort.name if cohort.data else "embedded simulated cohort",
        # As it comes back from JSON, which knows no tuples.
        "prepare": asdict(cohort.prepare) | {"encoders": list(cohort.prepare.encoders)},
    }


def _described(description: dict[str, Any]) -> Study:
    """The study that `_describe` described."""
    shared: dict[str, Any] = {
        "name": description["name"],
        "title": description["title"],
        "setting": Setting(**description["setting"]),
        "seeds": tuple(description["seeds"]),
        "protocol": Protocol.read(description),
        "controls": tuple(description["controls"]),
    }
    if description["kind"] == "grid":
        own = {name: description[name] for name in ("variants", "default", "vary")}
        markers = description.get("markers")
        return Grid(**shared | own, markers=None if markers is None else tuple(markers))
    if description["kind"] == "benchmark":
        own = {name: description[name] for name in ("reference", "unit", "slow_seeds", "sensitivity")}
        del shared["controls"]
        return Benchmark(**shared | own, methods=tuple(description["methods"]))
    return Search.described(description, shared)


def _finish(
    home: _Home, study: Study, shards: dict[str, str], console: Console, retry_failed: bool = False
) -> None:
    """Run what is missing, then tables, statistics and report. Needs a connected cluster and the lock."""
    import ray

    from senca_ray.analysis.aggregator import aggregator
    from senca_ray.analysis.embeddings import keep_embeddings
    from senca_ray.study.runner import run_plan

    out = home.folder
    with _resumable(home.out), watched():
        sink = aggregator(out)
        plan = _plan(study, shards, out, sink, retry_failed)
        if plan.finished:
            console.print(f"all {plan.done} trials were finished before")
        else:
            kept = home.checkpoints
            _run(lambda told: run_plan(plan, sink, out, told, checkpoints=kept), plan, home, console)
        if isinstance(plan, SearchPlan):
            # Before the tables: with these the study has finished.
            selection = plan.selection()
            write_json(out / keys.SELECTION_FILE, selection)
        ray.get(sink.finish.remote())
        if isinstance(plan, SearchPlan):
            keep_embeddings(out, {keys.DEFAULT, *(fold["chosen"] for fold in selection["folds"])})
    with _resumable(home.out):
        publish(out, console)


@contextmanager
def _resumable(out: str) -> Iterator[None]:
    """A stop and a lost cluster say how to go on."""
    import ray

    go_on = f"what is done is kept: go on with `senca resume {out}`"
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; {go_on}") from None
    except (NodeLost, StorageAway) as error:
        raise SencaError(f"{error}; {go_on}") from None
    except ray.exceptions.RayTaskError as error:
        # What the aggregator cannot do (a full disk), told in its own words instead of Ray's.
        if isinstance(error.cause, SencaError):
            raise SencaError(f"{error.cause}; {go_on}") from None
        raise
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise SencaError(f"the Ray cluster was lost ({type(error).__name__}); {go_on}") from error


def _plan(study: Study, shards: dict[str, str], out: Path, sink: Any, retry_failed: bool) -> Plan:
    import ray

    if not isinstance(study, Search):
        stored = {tuple(key) for key in ray.get(sink.keys.remote(failed=not retry_failed))}

        def done(trial: Trial) -> bool:
            return all(key in stored for key in _row_keys(trial))

        return GridPlan(study.trials(shards), done)

    def scores(trial: Trial) -> list[dict[str, Any]]:
        return list(ray.get(sink.rows.remote(_row_keys(trial))))

    return SearchPlan(study, shards, scores, out / keys.OPTUNA_FILE)


def _row_keys(trial: Trial) -> list[tuple[Any, ...]]:
    return [tuple(key[name] for name in keys.ROW_KEY) for key in trial.keys()]  # noqa: SIM118  a method


def _run(run: Callable[[Callable[[int], None]], None], plan: Plan, home: _Home, console: Console) -> None:
    """Run the plan under a bar."""
    with progress_bar(console) as bar:
        task = bar.add_task("fitting", total=plan.done + plan.left, completed=plan.done)
        written = time.monotonic()

        def told(ended: int) -> None:
            nonlocal written
            home.check()
            bar.update(task, total=plan.done + plan.left, completed=plan.done)
            if isinstance(plan, SearchPlan) and time.monotonic() - written > _LOOK_EVERY:
                write_json(home.folder / keys.SELECTION_FILE, plan.selection())
                written = time.monotonic()

        run(told)
