"""Figure `scale`: what the large form gives up on 5,000 spots, and what a fit of 50,000 and 500,000 takes.

All sections are simulated.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from senca_ray import keys
from senca_ray.bench.figure import Figure
from senca_ray.bench.process import fresh, peak_memory_mb

COMPARED, LARGE, LARGEST = 5_000, 50_000, 500_000
"""Spots of the sections that both forms fit, that only the large one does, and with `long` does too."""
SEEDS = 15
_NOTE = "simulated section, with image, 500 HVGs, 10 epochs, ward, one core"


def measure(repeat: int, say: Callable[[str], None], *, long: bool = False) -> list[Figure]:
    """Agreement of the forms, the same numbers in every run and so measured once; seconds and memory."""
    with tempfile.TemporaryDirectory(prefix="senca-bench-") as folder:
        say(f"{SEEDS} seeds in both forms on {COMPARED:,} spots")
        shard = fresh(write, store=folder, n_spots=COMPARED)
        figures = agreement_figures(fresh(compare_forms, shard=shard, seeds=SEEDS))
        for n_spots in (LARGE, LARGEST) if long else (LARGE,):
            say(f"simulating {n_spots:,} spots")
            shard = fresh(write, store=folder, n_spots=n_spots)
            runs = []
            for run in range(repeat):
                say(f"fitting {n_spots:,} spots, {run + 1} of {repeat}")
                runs.append(fresh(fit_large, shard=shard))
            figures += _of_fits(n_spots, runs)
        return figures


def agreement_figures(measured: dict[str, Any]) -> list[Figure]:
    """What `compare_forms` measured, each figure with what was asked of it."""
    note = f"{SEEDS} seeds, {COMPARED:,} spots; {_NOTE}"
    between = measured["between_seeds"]
    difference = measured["label_ari"][keys.LARGE] - measured["label_ari"][keys.EXACT]

    def figure(name: str, title: str, value: float, **asked: Any) -> Figure:
        return Figure(name=f"scale.{name}", title=title, unit="ARI", runs=(value,), note=note, **asked)

    return [
        figure("forms", "exact / large form, same seed", measured["forms"], better="higher", bound=between),
        figure("seeds", "  two seeds of the exact form", between, better="higher"),
        *(
            figure(f"labels.{form}", f"  labels, {form} form", value, better="higher")
            for form, value in measured["label_ari"].items()
        ),
        figure("labels.apart", "  labels: mean difference of the forms", abs(difference), bound=0.02),
    ]


def _of_fits(n_spots: int, runs: Sequence[dict[str, float]]) -> list[Figure]:
    named = f"fit of {n_spots:,} spots"
    seconds, memory = (tuple(run[what] for run in runs) for what in ("seconds", "memory"))
    return [
        Figure(name=f"scale.{n_spots}.seconds", title=named, unit="s", runs=seconds, note=_NOTE),
        Figure(
            name=f"scale.{n_spots}.memory",
            title="  peak memory of the process",
            unit="MB",
            runs=memory,
            bound=20_000.0 if n_spots == LARGEST else None,
            note="reading the shard included",
        ),
    ]


def write(store: str, n_spots: int) -> str:
    """Write a simulated tissue; returns its address. For a fresh process."""
    from senca_ray.bench.sections import write_tissue

    return write_tissue(Path(store), n_spots)


def compare_forms(shard: str, seeds: int) -> dict[str, Any]:
    """Mean ARI of the two forms' regions, of pairs of seeds, and against the labels. For a fresh process."""
    import numpy as np
    from sklearn.metrics import adjusted_rand_score

    from senca_ray.config import Setting
    from senca_ray.data.shards import read_sample
    from senca_ray.fit.consensus import agreement, stability
    from senca_ray.methods import MODEL, method
    from senca_ray.methods.protocol import Protocol
    from senca_ray.methods.run import run

    model, sample = method(MODEL), read_sample(shard, Setting().hvgs)
    settings = {keys.EXACT: Setting(form="exact"), keys.LARGE: Setting(form="large")}
    outcomes = {
        form: [run(model, sample, setting, seed, Protocol()) for seed in range(seeds)]
        for form, setting in settings.items()
    }
    exact, large = ([outcome.regions for outcome in found] for found in outcomes.values())
    same_seed = itertools.starmap(adjusted_rand_score, zip(exact, large, strict=True))
    return {
        "forms": float(np.mean(list(same_seed))),
        "between_seeds": stability(agreement(exact)),
        "label_ari": {
            form: float(np.mean([o.scores[keys.ARI] for o in found])) for form, found in outcomes.items()
        },
    }


def fit_large(shard: str) -> dict[str, float]:
    """Seconds of a fit with regions and scores, and the peak memory of it all. For a fresh process."""
    from senca_ray.config import Setting
    from senca_ray.data.shards import read_sample
    from senca_ray.methods import MODEL, method
    from senca_ray.methods.protocol import Protocol
    from senca_ray.methods.run import run

    model, setting = method(MODEL), Setting()
    sample = read_sample(shard, model.genes_needed(setting))
    read = peak_memory_mb()  # a fit forgets the peak before it
    found = run(model, sample, setting, 0, Protocol())
    return {"seconds": found.seconds, "memory": max(read, peak_memory_mb())}
