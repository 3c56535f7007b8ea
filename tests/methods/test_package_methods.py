from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from toys import toy_sample

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.errors import SencaError
from senca_ray.lock import held
from senca_ray.methods import package
from senca_ray.methods.deepst import DeepSt
from senca_ray.methods.graphst import GraphSt
from senca_ray.methods.package import ALL_GENES, SCRIPTS, PackageMethod, PackageRegionMethod, install
from senca_ray.methods.run import Protocol, run
from senca_ray.methods.spagcn import SpaGcn

SAMPLE = toy_sample()
SPOTS = len(SAMPLE.xy)


class Toy(PackageRegionMethod):
    """Runs a test's script with this very Python."""

    name = "toy"
    title = "toy"
    clusterings = (keys.OWN,)
    requirements = ("toy==1.0",)
    settings = MappingProxyType({"factor": 3})

    def python(self) -> Path:
        return Path(sys.executable)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SENCA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def toy(tmp_path: Path) -> Callable[[str], Toy]:
    """Make the toy method with the body of its script's `fit`; its environment is there."""

    def make(body: str) -> Toy:
        method = Toy()
        script = tmp_path / "script.py"
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        script.write_text(
            "import os, random, signal, sys, time\nimport numpy as np\n\n"
            f"def fit(section, settings, seed, k):\n    n = len(section.xy)\n{lines}"
        )
        method.__class__ = type("Scripted", (Toy,), {"script": script})
        method.environment().mkdir(parents=True, exist_ok=True)
        (method.environment() / "installed.txt").write_text("toy==1.0")
        return method

    return make


def test_a_script_gets_the_section_and_its_result_comes_back(toy: Callable[[str], Toy]) -> None:
    method = toy(
        "sums = np.asarray(section.counts.sum(axis=1)).ravel()\n"
        "named = len(section.genes) + section.genes.index('G7')\n"
        "rest = np.tile([named, settings['factor'], seed, k], (n, 1))\n"
        "return np.column_stack([section.xy, sums, rest]).astype(float), np.arange(n) % k"
    )
    found = method.segment(SAMPLE, Setting(), 5, 4)
    np.testing.assert_array_equal(found.values[:, :2], SAMPLE.xy)
    np.testing.assert_array_equal(found.values[:, 2], SAMPLE.total_counts)
    np.testing.assert_array_equal(found.values[:, 3:], np.tile([67, 3, 5, 4], (SPOTS, 1)))
    np.testing.assert_array_equal(found.regions, np.arange(SPOTS) % 4)
    assert found.peak_memory_mb is not None and 10 < found.peak_memory_mb < 1000


def test_its_own_regions_are_scored(toy: Callable[[str], Toy]) -> None:
    # Bands of the toy section, found again by their position.
    method = toy("return section.xy, np.minimum(section.xy[:, 0] * 3 // 10, 2).astype(int)")
    outcome = run(method, SAMPLE, Setting(), 0, Protocol())
    assert outcome.scores["ari"] == 1 and outcome.k == 3


DRAWS = (
    "return np.column_stack([np.random.rand(n), [random.random()] * n, [float(hash('G1') % 997)] * n]), None"
)


def test_a_seed_settles_what_a_package_draws(toy: Callable[[str], Toy]) -> None:
    method = toy(DRAWS.replace("None", "np.zeros(n, int)"))
    first, again, other = (method.segment(SAMPLE, Setting(), seed, 2).values for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first[:, :2] != other[:, :2]).all()


def test_nothing_of_the_user_reaches_the_package(
    toy: Callable[[str], Toy], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    method = toy(
        "assert not {'WANDB_API_KEY', 'PYTHONPATH', 'SENCA_CACHE'} & set(os.environ), 'leaked'\n"
        f"assert {str(tmp_path)!r} not in sys.path, 'leaked'\n"
        f"assert os.environ['HOME'] != {os.environ['HOME']!r}, 'leaked'\n"
        "assert os.environ['OMP_NUM_THREADS'] == '1', 'threads'\n"
        "return section.xy, np.zeros(n, int)"
    )
    assert method.segment(SAMPLE, Setting(), 0, 2).values.shape == (SPOTS, 2)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("print('noise', file=sys.stderr)\nraise ValueError('too few spots')", "ValueError: too few spots"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "ended by SIGKILL; it may have run out of memory"),
        ("sys.exit(3)", "exit code 3, without a word"),
        ("return np.array([['a']] * n), None", "TypeError: embedding of <U1; expected numbers"),
    ],
)
def test_a_script_that_fails_is_told_in_its_last_words(
    toy: Callable[[str], Toy], body: str, complaint: str
) -> None:
    with pytest.raises(SencaError, match=r"^T1: toy ") as caught:
        toy(body).segment(SAMPLE, Setting(), 0, 2)
    assert complaint in str(caught.value) and "noise" not in str(caught.value)


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        ({"embedding": np.zeros((3, 2))}, r"an embedding of float64 \(3, 2\)"),
        ({"embedding": np.zeros(SPOTS)}, "an embedding of float64"),
        ({"embedding": np.zeros((SPOTS, 2), dtype=int)}, "an embedding of int64"),
        ({"embedding": np.full((SPOTS, 2), np.nan)}, "NaN"),
        ({"embedding": SAMPLE.xy}, "no regions"),
        ({"embedding": SAMPLE.xy, "regions": np.zeros(3, dtype=int)}, r"regions of int64 \(3,\)"),
        ({"embedding": SAMPLE.xy, "regions": np.zeros(SPOTS)}, "regions of float64"),
    ],
)
def test_what_no_method_may_return_is_refused(
    found: dict[str, Any],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    toy: Callable[[str], Toy],
) -> None:
    def script(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        np.savez(command[-2], peak_memory_mb=1.0, **found)
        return subprocess.CompletedProcess(command, 0, "", "")

    method = toy("pass")
    monkeypatch.setattr(subprocess, "run", script)
    with pytest.raises(SencaError, match=complaint):
        method.segment(SAMPLE, Setting(), 0, 2)


def test_a_method_that_is_not_installed_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(subprocess, "run")
    for method in (SpaGcn(), GraphSt(), DeepSt()):
        assert method.missing() == f"not installed: `senca methods install {method.name}`"
        with pytest.raises(SencaError, match="not installed"):
            run(method, SAMPLE, Setting(), 0, Protocol())


def test_a_fit_ends_with_the_process_that_wanted_it(tmp_path: Path) -> None:
    alive, source = tmp_path / "alive", tmp_path / "in.npz"
    os.mkfifo(alive)
    package._write(source, SAMPLE, {"seed": 0, "k": 2, "settings": {}})
    script = tmp_path / "script.py"
    script.write_text(
        f"import time\n\ndef fit(*_):\n    out = open({str(alive)!r}, 'w', buffering=1)\n"
        "    print('started', file=out)\n    time.sleep(30)\n    print('finished', file=out)\n"
    )
    child = [
        sys.executable,
        "-sP",
        str(SCRIPTS / "child.py"),
        str(script),
        str(source),
        str(tmp_path / "out.npz"),
    ]
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import os, subprocess; subprocess.run({child!r} + [str(os.getpid())])"]
    )
    reader = os.open(alive, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert _read_until(reader, b"started\n") == b"started\n"
        parent.kill()
        parent.wait()
        # The pipe has an end when nobody is left who writes to it.
        assert _read_until(reader, None) == b""
    finally:
        parent.kill()
        os.close(reader)


def _read_until(reader: int, wanted: bytes | None) -> bytes:
    """Read until `wanted` has come, or, for None, to the end."""
    found = b""
    for _ in range(1200):
        try:
            piece = os.read(reader, 100)
        except BlockingIOError:
            piece = None
        found += piece or b""
        if found == wanted or (wanted is None and piece == b""):
            break
        time.sleep(0.02)
    return found


# --- Installing, with a Python that only pretends ------------------------------------------------------
PRETENDER = """#!/bin/sh
echo "$@" >> {log}
case "$*" in
  *"-m venv"*) for last; do :; done; mkdir -p "$last/bin"; cp "$0" "$last/bin/python" ;;
  *freeze*) echo toy==1.0 ;;
  *install*) echo "Collecting toy"; test ! -e {fails} || {{ echo "ERROR: no such version"; exit 1; }} ;;
  *child.py*) test ! -e {broken} || {{ echo "ImportError: cannot import toy"; exit 1; }} ;;
esac
"""


class Packaged(PackageMethod):
    name = "packaged"
    title = "packaged"
    requirements = ("torch==1.0", "toy==1.0")
    script = SCRIPTS / "none.py"


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder with the log of what was run; a file `fails` or `broken` there makes pip or the import fail."""
    python = tmp_path / "python"
    python.write_text(
        PRETENDER.format(log=tmp_path / "log", fails=tmp_path / "fails", broken=tmp_path / "broken")
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    return tmp_path


def test_installing_makes_the_environment_once(pretended: Path) -> None:
    method, told = Packaged(), list[str]()
    left = method.environment() / "left-by-a-killed-one"
    left.mkdir(parents=True)
    assert method.missing()
    install(method, told.append)
    assert not method.missing() and "Collecting toy" in told and not left.exists()
    assert (method.environment() / "requirements.txt").read_text() == "torch==1.0\ntoy==1.0\n"
    assert (method.environment() / "installed.txt").read_text() == "toy==1.0\n"
    ran = (pretended / "log").read_text()
    install(method, told.append)
    assert (pretended / "log").read_text() == ran


@pytest.mark.parametrize(("switch", "said"), [("fails", "no such version"), ("broken", "cannot import toy")])
def test_an_installation_that_fails_leaves_nothing_and_says_why(
    pretended: Path, switch: str, said: str
) -> None:
    (pretended / switch).touch()
    with pytest.raises(SencaError, match=f"(?s)exit code 1.*`senca methods install packaged`.*{said}"):
        install(Packaged(), lambda line: None)
    assert Packaged().missing() and not Packaged().environment().exists()


def test_an_installation_that_is_interrupted_leaves_nothing(pretended: Path) -> None:
    def interrupted(line: str) -> None:
        if line.startswith("Collecting"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        install(Packaged(), interrupted)
    assert not Packaged().environment().exists()


def test_two_installations_do_not_meet(pretended: Path) -> None:
    store = Packaged().environment().parent
    store.mkdir(parents=True)
    with held(store), pytest.raises(SencaError, match="wait for it"):
        install(Packaged(), lambda line: None)
    assert not (pretended / "log").exists()


def test_other_requirements_are_another_environment() -> None:
    newer = type("Newer", (Packaged,), {"requirements": ("torch==1.0", "toy==1.1")})()
    assert newer.environment() != Packaged().environment()


@pytest.mark.parametrize("method", [SpaGcn(), GraphSt(), DeepSt()])
def test_requirements_are_exact_and_begin_with_our_torch(method: PackageMethod) -> None:
    assert method.requirements[0] == f"torch=={importlib.metadata.version('torch').split('+')[0]}"
    assert all(line.count("==") == 1 for line in method.requirements)
    assert method.script.is_file() and method.genes_needed(Setting()) == ALL_GENES


def test_the_real_spagcn_finds_bands_that_expression_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SENCA_CACHE")
    if missing := SpaGcn().missing():
        pytest.skip(f"spagcn {missing}")
    outcome = run(SpaGcn(), toy_sample(genes=200), Setting(), 0, Protocol())
    assert outcome.scores["ari"] > 0.7
