"""How long fits take, from fits that were run: those of earlier studies, or a few made now here."""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from senca_ray import keys
from senca_ray.cloud.planned import Planned, config_of
from senca_ray.errors import Problem, ProblemsError, SencaError
from senca_ray.study.run_trial import run_trial
from senca_ray.study.trial import OutOfMemory

CPU, GPU = "cpu", "gpu"


@dataclass(frozen=True)
class Seconds:
    """What something takes: expected, and if all fits took as long as the quicker and slower quarter do."""

    low: float
    expected: float
    high: float

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def times(self, factor: float) -> Seconds:
        """So often."""
        return Seconds(self.low * factor, self.expected * factor, self.high * factor)


NOTHING = Seconds(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Fit:
    """One fit that was run."""

    method: str
    config: str
    modality: str
    form: str
    device: str
    """CPU or GPU."""
    spots: int
    seconds: float
    """Of all its readings."""
    readings: int
    peak_mb: float


@dataclass(frozen=True)
class Quote:
    """What one fit of a trial to come takes."""

    seconds: Seconds
    device: str
    """Where the fits were run that say so."""
    other_setting: bool
    """Whether none of them had the trial's setting."""
    settings: int
    """How many settings they had."""
    readings: int
    peak_mb: float
    """Highest memory of those fits: of the process, on a GPU of the card."""


class Measured:
    """Fits that were run, and what they say about those to come."""

    def __init__(self, rows: pd.DataFrame) -> None:
        """`rows` are result rows, of one study or of several; those of failed fits say nothing."""
        done = rows[(rows[keys.STATUS] == keys.OK) & rows[keys.SECONDS].notna()]
        self._same: dict[tuple[str, ...], list[Fit]] = defaultdict(list)
        self._other: dict[tuple[str, ...], list[Fit]] = defaultdict(list)
        for fit in _fits(done[done[keys.SEED] != keys.ALL_SEEDS]):
            self._other[fit.method, fit.modality, fit.form, fit.device].append(fit)
            self._same[fit.method, fit.modality, fit.form, fit.device, fit.config].append(fit)
        self._consensus = [
            (int(spots), float(seconds))
            for spots, seconds in done.loc[
                done[keys.SEED] == keys.ALL_SEEDS, [keys.N_SPOTS, keys.SECONDS]
            ].itertuples(index=False)
        ]

    @property
    def fits(self) -> list[Fit]:
        """All of them."""
        return [fit for group in self._other.values() for fit in group]

    def quote(self, one: Planned, gpu: bool) -> Quote | None:
        """What a fit of the trial takes on a machine with or without a GPU; None where nothing tells.

        Fits count that had its method on sections of its modality and form: those with its setting, else
        (and of a search's suggestions) those with any. On a GPU they are those on one, and where there are
        none those on a core. Seconds are the mean of the fits on sections of this size; between two measured
        sizes they lie on the line between the means, beyond they are in proportion to the spots.
        """
        method, config = one.trial.method, config_of(one.trial.method, one.trial.setting)
        for device in (GPU, CPU) if gpu and one.trains else (CPU,):
            group = (method, one.modality, one.form, device)
            same = [] if one.suggested else self._same.get((*group, config), [])
            if fits := same or self._other.get(group, []):
                return Quote(
                    seconds=_scaled([(fit.spots, fit.seconds) for fit in fits], one.spots),
                    device=device,
                    other_setting=not same and not one.suggested,
                    settings=len({fit.config for fit in fits}),
                    readings=min(fit.readings for fit in fits),
                    peak_mb=max(fit.peak_mb for fit in fits),
                )
        return None

    def consensus(self, one: Planned) -> Seconds:
        """What combining a trial's seeds takes; nothing where it has one seed or this was not measured."""
        if len(one.trial.seeds) == 1 or not self._consensus:
            return NOTHING
        return _scaled(self._consensus, one.spots)


def _scaled(points: list[tuple[int, float]], spots: int) -> Seconds:
    """Seconds on a section of so many spots, from (spots, seconds) of fits."""
    by_size: dict[int, list[float]] = defaultdict(list)
    for size, seconds in points:
        by_size[size].append(seconds)
    sizes = sorted(by_size)
    means = [statistics.fmean(by_size[size]) for size in sizes]
    nearest = min(max(spots, sizes[0]), sizes[-1])
    expected = float(np.interp(nearest, sizes, means)) * spots / nearest
    ratios = [
        value / mean for size, mean in zip(sizes, means, strict=True) if mean for value in by_size[size]
    ]
    quarter, three = np.quantile(ratios, [0.25, 0.75]) if ratios else (1.0, 1.0)
    # The mean may lie outside the quartiles where a few fits took very long.
    return Seconds(expected * min(1.0, float(quarter)), expected, expected * max(1.0, float(three)))


def _fits(rows: pd.DataFrame) -> Iterator[Fit]:
    """The fits of result rows, of which several may be readings of one fit.

    The seconds of a row are those of the embedding and of its own reading, so of several readings the
    embedding counts once. Taken for its seconds is what the quickest reading took beyond the same reading by
    the method that was quickest on the section: coordinates, for example, have nothing to embed.
    """
    reading = [keys.FINGERPRINT, keys.CLUSTERING, keys.K_POLICY, keys.PROTOCOL]
    quickest = rows.groupby(reading)[keys.SECONDS].min()
    spots = rows.groupby(keys.FINGERPRINT)[keys.N_SPOTS].max()
    trial = [keys.STUDY, keys.METHOD, keys.SETTING, keys.FINGERPRINT, keys.CONFIG, keys.DEVICE]
    for (_, method, _, fingerprint, config, device, _), group in rows.groupby([*trial, keys.SEED]):
        first = group.loc[group[keys.SECONDS].idxmin()]
        embedding = first[keys.SECONDS] - quickest[tuple(first[reading])]
        yield Fit(
            method=str(method),
            config=str(config),
            modality=str(first[keys.MODALITY]),
            # Rows of an earlier version do not say: then all sections were fitted exactly.
            form=keys.EXACT if pd.isna(first[keys.FORM]) else str(first[keys.FORM]),
            device=CPU if device == "cpu" else GPU,
            spots=int(spots[fingerprint]),
            seconds=float(group[keys.SECONDS].sum() - (len(group) - 1) * embedding),
            readings=len(group),
            peak_mb=float(group[keys.PEAK_MEMORY_MB].fillna(0).max()),
        )


def read_measured(folders: Iterable[Path]) -> pd.DataFrame:
    """The result rows of earlier studies; raises ProblemsError naming every folder without any."""
    from senca_ray.analysis.results import read_results

    tables, problems = [], []
    for folder in dict.fromkeys(folders):
        try:
            rows = read_results(folder)
            if not (rows[keys.STATUS] == keys.OK).any():
                raise SencaError(
                    f"{folder}: every fit failed; name a study whose fits say how long they take"
                )
            # Two studies of one name are two.
            tables.append(rows.assign(**{keys.STUDY: str(folder)}))
        except SencaError as error:
            problems.append(Problem("-", "--measured", str(error)))
    if problems:
        raise ProblemsError(problems, "the measured studies")
    return pd.concat(tables, ignore_index=True)


def measure(trials: list[Planned], gpu: bool, told: Callable[[str], None]) -> tuple[pd.DataFrame, float]:
    """Run trials in this process, one after the other; returns result rows and the share of time it computed.

    With `gpu`, what trains runs on this machine's GPU, else everything on one core. A share far below 1 says
    that other work kept the machine busy. `told` hears what is being fitted.
    """
    from senca_ray.analysis.rows import SCHEMA

    rows: list[dict[str, Any]] = []
    if trials:
        told("getting ready")
        # Not counted: what only a process's first fit pays, for workers are used again.
        _run(trials[0], gpu)
    wall, computed = time.perf_counter(), _computed()
    for one in trials:
        told(f"{one.trial.method} on {one.trial.sample} ({one.spots} spots)")
        rows += _run(one, gpu)
    share = (_computed() - computed) / max(time.perf_counter() - wall, 1e-9)
    # A failed row lacks most columns.
    return pd.DataFrame(rows).reindex(columns=SCHEMA.names), share


def _computed() -> float:
    """Seconds computed by this process and by those it waited for (methods with a Python of their own)."""
    return sum(os.times()[:4])


def _run(one: Planned, gpu: bool) -> list[dict[str, Any]]:
    try:
        return run_trial(one.trial, "cuda" if gpu and one.trains else "cpu")
    except OutOfMemory as error:
        raise SencaError(f"{error}; name a study that was run on such a GPU with --measured") from None
