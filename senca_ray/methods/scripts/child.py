"""Runs inside a method's own environment: reads a section, lets a script fit it, writes what was found.

`python -sP child.py SCRIPT IN.npz OUT.npz PARENT`, with the id of the process that started it; with SCRIPT
alone it only imports it. A script is a file with one function, `fit(section, settings, seed, k)`, that
returns the embedding and the regions (or None). Nothing of senca_ray can be imported in here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import resource
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

_LOOK_AGAIN = 0.5
"""Seconds between two looks at the parent."""


@dataclass(frozen=True)
class Section:
    """What a script gets of a section: N spots, G genes."""

    counts: csr_matrix
    """(N, G) raw counts, int32."""
    genes: list[str]
    """(G,) names."""
    xy: np.ndarray
    """(N, 2) float64 positions in spot distances."""


def main(script: str, source: str, target: str, parent: str) -> None:
    """Fit the section in `source` and write embedding, regions and peak memory to `target`."""
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    with np.load(source, allow_pickle=False) as given:
        counts = csr_matrix((given["data"], given["indices"], given["indptr"]), shape=given["shape"])
        section = Section(counts, given["genes"].tolist(), given["xy"])
        ask = json.loads(str(given["ask"]))
    random.seed(ask["seed"])
    np.random.seed(ask["seed"])  # noqa: NPY002  what the packages draw from
    embedding, regions = load(script).fit(section, ask["settings"], ask["seed"], ask["k"])
    found: dict[str, Any] = {
        "embedding": np.asarray(embedding),
        "peak_memory_mb": np.array(_peak_memory_mb()),
    }
    if regions is not None:
        found["regions"] = np.asarray(regions)
    for name, values in found.items():
        # Older numpy would write Python objects as a pickle, unasked.
        if values.dtype.kind not in "fiu":
            raise TypeError(f"{name} of {values.dtype}; expected numbers")
    np.savez(target, **found)


def load(script: str) -> ModuleType:
    """Import a script."""
    # By its path: its name may be that of the package it runs.
    spec = importlib.util.spec_from_file_location("senca_method_script", script)
    if spec is None or spec.loader is None:
        raise ImportError(f"{script} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _end_with(parent: int) -> None:
    """End this process when its parent has died, even by a signal that leaves it no time to say so."""
    while os.getppid() == parent:
        time.sleep(_LOOK_AGAIN)
    os._exit(1)


def _peak_memory_mb() -> float:
    """Highest resident memory of this process; on Linux not `ru_maxrss`, which the parent's memory enters."""
    status = Path("/proc/self/status")
    if status.exists():
        peaks = [x for x in status.read_text(encoding="utf-8").splitlines() if x.startswith("VmHWM:")]
        if peaks:
            return int(peaks[0].split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        load(sys.argv[1])
    else:
        main(*sys.argv[1:])
