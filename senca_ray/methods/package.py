"""Methods that run the authors' own package, in a virtual environment that holds nothing else.

Old packages want old libraries, so none of them is ever imported next to ours. Where its environment is not
there, a method is missing; nothing takes its place.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import numpy as np

from senca_ray import files, keys
from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.lock import held
from senca_ray.methods.base import Embedding, Method, RegionMethod

ALL_GENES = 2**31 - 1
SCRIPTS = Path(__file__).with_name("scripts")
_CHILD = SCRIPTS / "child.py"
_MARKER = "whole.json"
"""Written last: an environment without it is half-made."""
_TAIL = 8
"""Lines of pip's output that are told when it fails."""
_THREADS = ("OMP", "MKL", "OPENBLAS", "NUMBA", "NUMEXPR", "VECLIB_MAXIMUM")


class PackageMethod(Method):
    """A method whose embedding the authors' package computes, in a process and an environment of its own."""

    kind = keys.PUBLISHED
    source = keys.PACKAGE
    requirements: ClassVar[tuple[str, ...]]
    """What pip installs, pinned exactly, torch first."""
    imports: ClassVar[str]
    """The module that has to be importable after installing."""
    script: ClassVar[Path]
    """Runs inside the environment; a file with `fit(section, settings, seed, k)`, see scripts/child.py."""

    def environment(self) -> Path:
        """Folder of the virtual environment: another one when the requirements change."""
        digest = hashlib.sha256("\n".join((sys.version[:4], *self.requirements)).encode()).hexdigest()
        return files.cache() / "methods" / f"{self.name}-{digest[:12]}"

    def python(self) -> Path:
        """Python of the environment."""
        return self.environment() / "bin" / "python"

    def missing(self) -> str:
        """The command that installs it; empty when it is there as a whole."""
        whole = (self.environment() / _MARKER).is_file() and self.python().exists()
        return "" if whole else f"not installed: `senca methods install {self.name}`"

    def genes_needed(self, setting: Setting) -> int:
        """All of them: a package chooses its genes by itself."""
        return ALL_GENES

    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        """Let the package embed the section; raises SencaError when it is missing or fails."""
        return self._fit(sample, seed, None)

    def _fit(self, sample: Sample, seed: int, k: int | None) -> Embedding:
        if missing := self.missing():
            raise SencaError(f"{self.name} is {missing}")
        with tempfile.TemporaryDirectory(prefix=f"senca-{self.name}-") as folder:
            source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
            ask = {"seed": seed, "k": k, "settings": dict(self.settings)}
            _write(source, sample, ask)
            # -s and -P leave out the user's packages and the script's folder; -I would also pass over the seed
            # of hashes. PYTHON* variables of the user do not get here.
            command = [self.python(), "-sP", _CHILD, self.script, source, target, str(os.getpid())]
            process = subprocess.run(  # noqa: S603  our own script, no shell
                list(map(str, command)),
                cwd=folder,
                env=self._variables(folder),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                check=False,
            )
            if process.returncode != 0 or not target.exists():
                raise SencaError(f"{sample.name}: {self.name} {_ending(process.returncode, process.stderr)}")
            return self._read(target, sample)

    def _read(self, target: Path, sample: Sample) -> Embedding:
        """What the script found; raises SencaError for what no method may return."""
        with np.load(target, allow_pickle=False) as found:
            values, peak = found["embedding"], float(found["peak_memory_mb"])
            regions = found["regions"] if "regions" in found else None
        spots = len(sample.xy)
        problem = ""
        if values.ndim != 2 or len(values) != spots or values.dtype.kind != "f":
            problem = f"an embedding of {values.dtype} {values.shape}; expected floats ({spots}, D)"
        elif not np.isfinite(values).all():
            problem = "an embedding with NaN or infinite values"
        elif keys.OWN in self.clusterings and regions is None:
            problem = f"no regions; expected integers ({spots},)"
        elif regions is not None and (regions.shape != (spots,) or regions.dtype.kind not in "iu"):
            problem = f"regions of {regions.dtype} {regions.shape}; expected integers ({spots},)"
        if problem:
            raise SencaError(f"{sample.name}: {self.name} returned {problem}; look at {self.script}")
        return Embedding(values, regions=regions, peak_memory_mb=peak)

    def _variables(self, temporary: str) -> dict[str, str]:
        """Environment of a fit: one thread, no GPU, nothing of the user's own, no keys and tokens."""
        own = self.environment() / "cache"
        given = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        return given | {
            **{f"{name}_NUM_THREADS": "1" for name in _THREADS},
            "CUDA_VISIBLE_DEVICES": "",
            "HOME": str(own),
            "LANG": "C.UTF-8",
            "MPLBACKEND": "Agg",
            "MPLCONFIGDIR": str(own / "matplotlib"),
            "NUMBA_CACHE_DIR": str(own / "numba"),
            "PYTHONHASHSEED": "0",
            "TMPDIR": temporary,
            "TQDM_DISABLE": "1",
        }


class PackageRegionMethod(RegionMethod, PackageMethod):
    """A package that also finds regions by itself."""

    def segment(self, sample: Sample, setting: Setting, seed: int, k: int) -> Embedding:
        """Let the package embed the section and look for `k` regions; raises SencaError as `embed` does.

        The regions are as many as the package found, which some cannot always bring to `k`.
        """
        return self._fit(sample, seed, k)
