"""What docs/security.md promises of a study on this machine: who can reach it, and what it leaves behind.

Of clusters, which take longer to start: proofs/security.py.
"""

from __future__ import annotations

import ast
import ipaddress
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from her2st_folder import write_section
from world import ROOT, World

CANARIES = {
    "WANDB_API_KEY": "ca4a12ec0de00000000000000000000000000001",
    "AWS_SECRET_ACCESS_KEY": "canary/secret/of/the/storage/2f8d1b",
    "AWS_SESSION_TOKEN": "canary-session-of-the-storage-77ab31",
}
"""Secrets that a user may have in the environment; nobody wants them in a file."""

# A study as its experiment runs it, on the cluster that it would start, looked at before that ends.
STUDY = r"""
import json, os, runpy, sys
import grpc, psutil
from senca_ray import cluster

NODES = "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"

def answer(address, token):
    ask = grpc.insecure_channel(address).unary_unary(NODES)
    try:
        ask(b"", metadata=[("authorization", f"Bearer {token}")] if token else [], timeout=30)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"

with cluster.connected():
    import ray
    try:
        sys.argv = sys.argv[1:]
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        assert not end.code, end
    with open(os.path.expanduser("~/.ray/auth_token")) as file:
        right = file.read()
    gcs = ray.get_runtime_context().gcs_address
    me = psutil.Process()
    family = [me, *me.children(recursive=True)]
    ports = [
        (process.name(), port.laddr.ip, port.laddr.port)
        for process in family
        for port in process.net_connections("inet")
        if port.status == psutil.CONN_LISTEN or port.type == 2 and not port.raddr
    ]
    seen = {
        "ports": ports,
        "commands": [" ".join(process.cmdline()) for process in family],
        "answers": {who: answer(gcs, token) for who, token in
                    {"nobody": "", "somebody": "0" * 64, "owner": right}.items()},
    }
    with open("seen.json", "w") as file:
        json.dump(seen, file)
"""


@dataclass(frozen=True)
class Left:
    """What the study left behind, and how its cluster looked."""

    home: Path
    """Holds the study, the user's own files, and what was printed."""
    sessions: Path
    """Ray's folder of temporary files."""
    seen: dict[str, Any]
    token: str

    def files(self) -> dict[Path, bytes]:
        token = self.home / ".ray" / "auth_token"
        found = [path for top in (self.home, self.sessions) for path in top.rglob("*")]
        return {path: path.read_bytes() for path in found if path.is_file() and path != token}

    def holding(self, text: str) -> list[str]:
        return [str(path) for path, content in self.files().items() if text.encode() in content]


@pytest.fixture(scope="module")
def left(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Left]:
    home = tmp_path_factory.mktemp("home")
    # Short, because Ray's sockets lie in it.
    sessions = Path(tempfile.mkdtemp(prefix="s"))
    private = {"HOME": str(home), "RAY_TMPDIR": str(sessions)}
    clean = {k: v for k, v in world.environment.items() if not k.startswith("RAY_")}
    spots = [(x, y) for y in range(5) for x in range(6)]
    labels = ["invasive cancer" if x < 3 else "connective tissue" for x, _ in spots]
    counts, genes = np.random.default_rng(0).poisson(3, (30, 40)), [f"G{i}" for i in range(40)]
    write_section(home / "data", "A1", spots, counts, labels, genes)
    few = ["--data", "data", "--encoder", "random", "--shards", "shards", "--out", "study"]
    few += ["--values", "4,8", "--seeds", "2", "--set", "epochs=2", "--set", "hvgs=40"]
    try:
        with (home / "printed").open("w") as printed:
            ran = subprocess.run(
                [sys.executable, "-c", STUDY, str(ROOT / "experiments/sweep_neighbors.py"), *few],
                cwd=home,
                env=clean | private | CANARIES,
                stdout=printed,
                stderr=subprocess.STDOUT,
                umask=0o022,
                timeout=580,
            )
        assert ran.returncode == 0, (home / "printed").read_text()
        seen = json.loads((home / "seen.json").read_text())
        yield Left(home, sessions, seen, (home / ".ray" / "auth_token").read_text())
    finally:
        shutil.rmtree(sessions)


def test_all_ports_of_a_study_are_on_loopback(left: Left) -> None:
    assert {"gcs_server", "raylet"} <= {name for name, _, _ in left.seen["ports"]}
    outside = [
        port
        for port in left.seen["ports"]
        if not ipaddress.ip_address(port[1].removeprefix("::ffff:")).is_loopback
    ]
    assert not outside


def test_a_study_opens_neither_dashboard_nor_client_port(left: Left) -> None:
    assert not {8265, 10001} & {port for _, _, port in left.seen["ports"]}


def test_who_has_no_token_or_a_wrong_one_is_refused(left: Left) -> None:
    refused = {"nobody": "UNAUTHENTICATED", "somebody": "UNAUTHENTICATED"}
    assert left.seen["answers"] == refused | {"owner": "OK"}


def test_other_users_reach_neither_the_token_nor_sockets_nor_logs(left: Left) -> None:
    token = left.home / ".ray" / "auth_token"
    (around,) = left.sessions.iterdir()
    assert list(around.glob("*/session_2*/sockets/*")) and list(around.glob("*/session_2*/logs/*"))
    for path in (token, token.parent, around):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_a_token_that_others_could_read_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from senca_ray import cluster

    token = tmp_path / "auth_token"
    token.write_text("t")
    token.chmod(0o644)
    monkeypatch.setattr(cluster, "TOKEN_FILE", token)
    cluster.close_token()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600


def test_a_session_folder_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from senca_ray import cluster
    from senca_ray.errors import SencaError

    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "theirs").mkdir()
    (tmp_path / f"ray-{os.getuid()}").symlink_to(tmp_path / "theirs")
    with pytest.raises(SencaError, match="belongs to somebody else"):
        cluster.start_local()


def test_no_secret_is_in_a_file_or_a_command_line(left: Left) -> None:
    # The search finds what is there, in each of the places.
    places = {"study/report.html", "study/study.json", "study/wandb/", "printed", "/logs/"}
    names = [str(path) for path in left.files()]
    assert all(any(place in name for name in names) for place in places)
    runs = [path for path in left.holding("sweep-neighbors") if path.endswith(".wandb")]
    assert runs
    for name, secret in {**CANARIES, "token": left.token}.items():
        assert not left.holding(secret), name
        assert not [command for command in left.seen["commands"] if secret in command], name


def test_data_is_never_unpickled() -> None:
    """Ruff looks for pickle, yaml.load and shells; not for these two."""
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / "senca_ray").rglob("*.py")}
    loading = {path: text for path, text in sources.items() if "torch.load" in text or "allow_pickle" in text}
    assert loading
    for path, text in loading.items():
        for node in ast.walk(ast.parse(text)):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            said = {option.arg: ast.unparse(option.value) for option in node.keywords}
            called = ast.unparse(node.func)
            if called == "torch.load":
                assert said.get("weights_only") == "True", f"{path}:{node.lineno}"
            assert said.get("allow_pickle", "False") == "False", f"{path}:{node.lineno}"
