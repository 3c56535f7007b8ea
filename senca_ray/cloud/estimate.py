"""What a study takes on a cluster: work, wall time and cost, from measured seconds and the cluster file."""

from __future__ import annotations

import dataclasses
import heapq
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

from senca_ray.cloud.cluster_file import ClusterFile, NodeType
from senca_ray.cloud.planned import Planned, counts_by_method
from senca_ray.cloud.seconds import GPU, NOTHING, Measured, Quote, Seconds
from senca_ray.errors import Problem
from senca_ray.study.search import Search

if TYPE_CHECKING:
    from senca_ray.experiment import Study

START_UP_MINUTES = 5.0
"""Taken for what passes between asking for a machine and its first trial: assumed, not measured."""

_CARD_MB = {
    r"^(g4dn|n1-.*t4)": 15_360,  # T4
    r"^g5\.": 23_028,  # A10G
    r"^(g6\.|g2-)": 23_034,  # L4
    r"^p3\.": 16_160,  # V100
    r"^(p4d|a2-high)": 40_960,  # A100, 40 GB
    r"^p5\.": 81_559,  # H100
}
"""Memory of a card in MiB, as nvidia-smi tells it, by what clouds call machines with it."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """The trials of one method and setting."""

    method: str
    setting: str
    trials: int
    fits: int
    a_fit: Seconds | None
    """Mean over its fits; None where nothing tells how long they take."""
    work: Seconds
    """Seconds on one core, or on one GPU, of what was measured."""
    quotes: tuple[Quote, ...]
    missing: int
    """Trials that nothing tells anything about."""
    unread: int
    """Readings of a fit beyond those that were measured."""

    @property
    def on_gpu(self) -> bool:
        """Whether its seconds are those of a GPU."""
        return any(quote.device == GPU for quote in self.quotes)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What the trials of a study take on one kind of machine."""

    lines: tuple[Line, ...]
    trials: tuple[Seconds, ...]
    """Of every trial that something tells about."""


def total(work: Work, gpu: bool) -> Seconds:
    """Seconds of all trials on a GPU, or of all on a core, one after the other."""
    return _sum(line.work for line in work.lines if line.on_gpu == gpu)


def work_of(planned: Iterable[Planned], measured: Measured, gpu: bool) -> Work:
    """What the trials take on machines with or without GPUs: each fit of a trial, and combining its seeds."""
    lines, durations = [], []
    for (method, setting), trials in counts_by_method(list(planned)).items():
        quotes = [measured.quote(one, gpu) for one in trials]
        known = [(one, quote) for one, quote in zip(trials, quotes, strict=True) if quote is not None]
        of_fits = [quote.seconds.times(len(one.trial.seeds)) for one, quote in known]
        own = [fits + measured.consensus(one) for fits, (one, _) in zip(of_fits, known, strict=True)]
        fits = sum(len(one.trial.seeds) for one, _ in known)
        lines.append(
            Line(
                method=method,
                setting=setting,
                trials=len(trials),
                fits=sum(len(one.trial.seeds) for one in trials),
                a_fit=_sum(of_fits).times(1 / fits) if fits else None,
                work=_sum(own),
                quotes=tuple(quote for _, quote in known),
                missing=len(trials) - len(known),
                unread=max((len(one.trial.protocols) - quote.readings for one, quote in known), default=0),
            )
        )
        durations += own
    return Work(lines=tuple(lines), trials=tuple(durations))


def _sum(many: Iterable[Seconds]) -> Seconds:
    return reduce(add, many, NOTHING)


# --- Machines -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fleet:
    """Workers that a study may get."""

    machines: tuple[tuple[NodeType, int], ...]

    @property
    def gpu(self) -> bool:
        """Whether all of them have GPUs."""
        return all(node.gpus for node, _ in self.machines)

    @property
    def name(self) -> str:
        """'4 x g5.xlarge (spot)'."""
        return " and ".join(
            f"{count} x {node.instance or node.name}{' (spot)' if node.spot else ''}"
            for node, count in self.machines
        )

    @property
    def count(self) -> int:
        """How many they are."""
        return sum(count for _, count in self.machines)

    def slots(self, peak_mb: float | None) -> int:
        """Trials at once; `peak_mb` is what one was seen to take of a GPU, None where no GPU was measured."""
        return sum(count * slots_of(node, peak_mb) for node, count in self.machines)

    def first(self, slots: int, peak_mb: float | None) -> Fleet:
        """So many of them as `slots` trials at once take: no more are started."""
        kept = []
        for node, count in self.machines:
            needed = min(count, math.ceil(max(0, slots) / slots_of(node, peak_mb)))
            slots -= needed * slots_of(node, peak_mb)
            if needed:
                kept.append((node, needed))
        return Fleet(tuple(kept))


def slots_of(node: NodeType, peak_mb: float | None) -> int:
    """Trials at once on one machine: a core each and, where there are GPUs, a share of one."""
    if not node.gpus:
        return node.cpus
    return min(node.cpus, node.gpus * side_by_side(node, peak_mb))


def side_by_side(node: NodeType, peak_mb: float | None) -> int:
    """Trials that share a GPU as study/packing.py would have it; 1 where its or their memory is unknown."""
    from senca_ray.study.packing import CONTEXT_MB, FILLED

    card = next((mb for pattern, mb in _CARD_MB.items() if re.match(pattern, node.instance)), None)
    if card is None or peak_mb is None:
        return 1
    return max(1, int(FILLED * card / (peak_mb + CONTEXT_MB)))


def fleets(cluster: ClusterFile, workers: int) -> list[Fleet]:
    """So many workers of each kind that may have as many; else of several kinds, in the order of the file.

    `fleet_problems` has found nothing.
    """
    usable = _usable(cluster)
    if alike := [Fleet(((node, workers),)) for node in usable if node.max_workers >= workers]:
        return alike
    mixed, left = [], workers
    for node in usable:
        count = min(left, node.max_workers)
        left -= count
        if count:
            mixed.append((node, count))
    return [Fleet(tuple(mixed))]


def fleet_problems(cluster: ClusterFile, workers: int) -> list[Problem]:
    """What keeps a cluster from having so many workers."""
    most = min(cluster.max_workers, sum(node.max_workers for node in _usable(cluster)))
    if most == 0:
        message = "no worker for trials; expected a node type beside the head with max_workers and "
        return [Problem("-", str(cluster.path), f"{message}resources.CPU of 1 or more")]
    if workers <= most:
        return []
    message = f"{workers} found, {cluster.path} allows {most}; ask for fewer, or raise max_workers there, "
    return [Problem("-", "--workers", f"{message}which raises the most that the cluster may cost")]


def _usable(cluster: ClusterFile) -> list[NodeType]:
    return [node for node in cluster.workers if node.cpus and node.max_workers]


# --- Time ---------------------------------------------------------------------------------------------


def makespan(durations: Iterable[float], slots: int) -> float:
    """Seconds until all are done on so many slots, the longest first and each as soon as a slot is free."""
    free = [0.0] * slots
    for seconds in sorted(durations, reverse=True):
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


def wall(study: Study, trials: Sequence[Seconds], slots: int) -> Seconds:
    """Time from the first trial's start to the last one's end.

    The suggestions of a search rest on those before: rounds of them come one after the other, whatever the
    slots. A round takes its longest trial at least.
    """
    found = [makespan((getattr(t, end) for t in trials), slots) for end in ("low", "expected", "high")]
    if isinstance(study, Search) and trials:
        rounds = math.ceil(study.suggestions / (study.ahead or max(2, slots)))
        longest = max(trials, key=lambda t: t.expected)
        found = [max(f, rounds * getattr(longest, end)) for f, end in zip(found, _ENDS, strict=True)]
    return Seconds(*found)


_ENDS = tuple(field.name for field in dataclasses.fields(Seconds))


# --- Cost ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a study takes with one fleet."""

    fleet: Fleet
    """As many machines of it as there is work for."""
    slots: int
    work: Work
    time: Seconds
    """Until the last trial has ended: machines coming up, and trials."""
    dollars: Seconds | None
    """Of its workers and the head, until the idle ones are gone; None where the file lacks a price."""


def offer(
    study: Study, planned: Sequence[Planned], measured: Measured, fleet: Fleet, cluster: ClusterFile
) -> Offer:
    """What a study takes with a fleet of this cluster."""
    work = work_of(planned, measured, fleet.gpu)
    peaks = [quote.peak_mb for line in work.lines for quote in line.quotes if quote.device == GPU]
    peak = max(peaks) if peaks else None
    used = fleet.first(len(planned), peak)
    slots = used.slots(peak) + cluster.head.cpus
    ran = wall(study, work.trials, slots)
    start = START_UP_MINUTES * 60
    time = Seconds(start + ran.low, start + ran.expected, start + ran.high)
    rate = hourly(cluster.head, used.machines)
    billed = Seconds(*(getattr(time, end) + cluster.idle_minutes * 60 for end in _ENDS))
    dollars = None if rate is None else billed.times(rate / 3600)
    return Offer(fleet=used, slots=slots, work=work, time=time, dollars=dollars)


def hourly(head: NodeType, machines: Iterable[tuple[NodeType, int]]) -> float | None:
    """US dollars an hour; None where a price is missing."""
    total = 0.0
    for node, count in ((head, 1), *machines):
        if node.price is None:
            return None
        total += node.price * count
    return total


def most_machines(cluster: ClusterFile) -> tuple[tuple[NodeType, int], ...]:
    """The dearest workers that the file allows at once; those without a price come first."""
    found, left = [], cluster.max_workers
    for node in sorted(cluster.workers, key=lambda n: math.inf if n.price is None else n.price, reverse=True):
        count = min(left, node.max_workers)
        left -= count
        if count:
            found.append((node, count))
    return tuple(found)


def without_price(cluster: ClusterFile) -> list[str]:
    """Node types whose price the file does not say."""
    return [node.name for node in (cluster.head, *cluster.workers) if node.price is None]
