"""Methods that run the authors' own package, in a virtual environment that holds nothing else.

Old packages want old libraries, so none of them is ever imported next to ours. Where its environment is not
there, a method is missing; nothing takes its place.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from senca_ray import files, keys
from senca_ray.config import Setting
from senca_ray.data.sample import ALL_GENES, Sample
from senca_ray.errors import SencaError
from senca_ray.lock import held
from senca_ray.methods.base import Embedding, Method, RegionMethod

SCRIPTS = Path(__file__).with_name("scripts")
SCANPY = (
    "torch==2.13.0",
    "numpy==1.26.4",
    "scipy==1.13.1",
    "pandas==2.2.3",
    "scikit-learn==1.5.2",
    "numba==0.60.0",
    "umap-learn==0.5.7",
    "anndata==0.10.9",
    "scanpy==1.10.3",
    "igraph==0.11.8",
)
"""Libraries of the age of these packages that work together; torch at our pin, for the same build."""
_CHILD = SCRIPTS / "child.py"
_MARKER = "installed.txt"
"""What pip installed; written last: an environment without it is half-made."""
_TAIL = 8
"""Lines of pip's output that are told when it fails."""
_THREADS = ("OMP", "MKL", "OPENBLAS", "NUMBA", "NUMEXPR", "VECLIB_MAXIMUM")


class PackageMethod(Method):
    """A method whose embedding the authors' package computes, in a process and an environment of its own."""

    kind = keys.PUBLISHED
    source = keys.PACKAGE
    requirements: ClassVar[tuple[str, ...]]
    """What pip installs, pinned exactly, torch first."""
    script: ClassVar[Path]
    """Runs inside the environment; a file with `fit(section, settings, seed, k)`, see scripts/child.py."""

    def environment(self) -> Path:
        """Folder of the virtual environment: another one when the requirements change."""
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        digest = hashlib.sha256("\n".join((python, *self.requirements)).encode()).hexdigest()
        return files.cache().absolute() / "methods" / f"{self.name}-{digest[:12]}"

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
            raise SencaError(f"{self.name}: {missing}")
        with tempfile.TemporaryDirectory(prefix=f"senca-{self.name}-") as folder:
            source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
            ask = {"seed": seed, "k": k, "settings": dict(self.settings)}
            _write(source, sample, ask)
            # -s and -P leave out the user's packages and the script's folder; -I would ignore the seed of
            # hashes as well, and no PYTHON variable of the user gets here anyway.
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
            regions = found.get("regions")
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


def install(method: PackageMethod, tell: Callable[[str], None]) -> None:
    """Make the environment of `method` where it is missing; `tell` gets pip's lines as they come.

    Raises SencaError with the end of what a step said when it fails. What is half-made is removed, then and
    on Ctrl-C.
    """
    folder = method.environment()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SencaError(
            f"{folder.parent}: cannot be made ({error.strerror}); let SENCA_CACHE name a folder to write to"
        ) from None
    with held(folder.parent):
        if not method.missing():
            return
        try:
            _make(method, folder, tell)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _make(method: PackageMethod, folder: Path, tell: Callable[[str], None]) -> None:
    # What a killed installation has left.
    shutil.rmtree(folder, ignore_errors=True)
    tell("making a virtual environment")
    _step(method, "venv", [sys.executable, "-I", "-m", "venv", folder], tell)
    pip: list[str | Path] = [method.python(), "-I", "-m", "pip", "--disable-pip-version-check", "--no-input"]
    wanted = folder / "requirements.txt"
    wanted.write_text("\n".join(method.requirements) + "\n", encoding="utf-8")
    _step(method, "pip", [*pip, "install", "--progress-bar", "off", "-r", wanted], tell)
    tell("importing it for the first time")
    with tempfile.TemporaryDirectory(prefix="senca-install-") as temporary:
        check: list[str | Path] = [method.python(), "-sP", _CHILD, method.script]
        _step(method, "importing it", check, lambda line: None, method._variables(temporary))
    installed = _step(method, "pip", [*pip, "freeze"], lambda line: None)
    files.write_text(folder / _MARKER, installed)


def _step(
    method: PackageMethod,
    name: str,
    command: Sequence[str | Path],
    tell: Callable[[str], None],
    variables: dict[str, str] | None = None,
) -> str:
    """Run one step and return what it printed; raises SencaError with the end of that when it fails."""
    lines: list[str] = []
    with subprocess.Popen(  # noqa: S603  venv, pip and our own script, no shell
        list(map(str, command)),
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            for line in process.stdout or ():
                lines.append(line)
                tell(line.strip())
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        end = "".join(lines[-_TAIL:]).strip()
        raise SencaError(
            f"{method.name} was not installed: {name} ended with exit code {process.returncode}. Nothing was "
            f"left behind; mend what it says and run `senca methods install {method.name}` again:\n{end}"
        )
    return "".join(lines)


def _write(source: Path, sample: Sample, ask: dict[str, Any]) -> None:
    counts = sample.counts
    np.savez(
        source,
        allow_pickle=False,
        data=counts.data,
        indices=counts.indices,
        indptr=counts.indptr,
        shape=np.array(counts.shape),
        genes=np.array(sample.genes, dtype=np.str_),
        xy=sample.xy,
        ask=np.array(json.dumps(ask)),
    )


def _ending(code: int, errors: str) -> str:
    """How a process ended, in words, with its last line: a traceback ends with the error."""
    if code < 0:
        name = signal.Signals(-code).name
        hint = "; it may have run out of memory" if -code == signal.SIGKILL else ""
        return f"was ended by {name}{hint}"
    said = [line.strip() for line in errors.splitlines() if line.strip()]
    return f"failed in its own environment: {said[-1] if said else f'exit code {code}, without a word'}"
