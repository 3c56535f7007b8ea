"""Experiments sent to a cluster: what travels, how a broken connection is mended, how it ends."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import ray
import typer
from typer.testing import CliRunner

from senca_ray import cli_submit, cluster
from senca_ray.cloud import check_versions, jobs, parcel, tunnel
from senca_ray.cloud.jobs import Dashboard, Gone
from senca_ray.cloud.parcel import pack
from senca_ray.cloud.tunnel import Head, Lost, Tunnel
from senca_ray.errors import ProblemsError, SencaError

PATIENCE = 200
"""Seconds after which what should have happened did not."""

app = typer.Typer(rich_markup_mode=None)
app.command(context_settings=cli_submit.PASSED_ON)(cli_submit.submit)
app.command()(cli_submit.attach)


def wait_until(holds: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


# What travels


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a user stands in, with experiments and configs like this repository's."""
    folder = tmp_path / "project"
    for name in (
        "experiments/sweep_hvg.py",
        "experiments/shared.py",
        "configs/one.yaml",
        "configs/b/two.yaml",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    monkeypatch.chdir(folder)
    return folder


def problems(script: str, *options: str) -> list[tuple[str, str]]:
    with pytest.raises(ProblemsError) as caught:
        pack(Path(script), options)
    return [(problem.place, problem.message) for problem in caught.value.problems]


def test_script_neighbours_configs_and_named_files_travel_and_nothing_else(project: Path) -> None:
    for secret in (".env", "experiments/.secret.py", "configs/.env", "configs/lab.key", ".git/config"):
        (project / secret).parent.mkdir(exist_ok=True)
        (project / secret).write_text("SECRET")
    (project.parent / "elsewhere.yaml").write_text("SECRET")
    (project / "configs" / "link.yaml").symlink_to(project.parent / "elsewhere.yaml")
    (project / "large.csv").write_text("not named, not sent")
    for name in ("mine.yaml", "weights.pth", "genes.txt"):
        (project / name).write_text(name)
    options = ["--config", str(project / "mine.yaml"), "--encoder-weights=resnet18=weights.pth"]
    options += ["--genes", "@./genes.txt", "--seeds", "3", "--data", "s3://lab/her2st", "--name", "x" * 300]
    packed = pack(Path("experiments/sweep_hvg.py"), options)
    folder = project.parent / "there"
    packed.write(folder)
    sent = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    modules = {"experiments/sweep_hvg.py", "experiments/shared.py", "check_versions.py"}
    assert sent == modules | {
        "configs/one.yaml",
        "configs/b/two.yaml",
        "mine.yaml",
        "weights.pth",
        "genes.txt",
    }
    assert not any("SECRET" in (folder / name).read_text() for name in sent)
    assert packed.name == "sweep-hvg"
    assert packed.command == (
        *("python", "experiments/sweep_hvg.py", "--config", "mine.yaml"),
        *("--encoder-weights=resnet18=weights.pth", "--genes", "@genes.txt", "--seeds", "3"),
        *("--data", "s3://lab/her2st", "--name", "x" * 300),
    )


def test_a_script_in_the_current_folder_finds_its_configs_too(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project / "experiments")
    packed = pack(Path("sweep_hvg.py"), [])
    assert packed.command == ("python", "experiments/sweep_hvg.py")
    assert {"experiments/sweep_hvg.py", "experiments/shared.py", "configs/one.yaml"} < set(packed.files)


def test_what_the_cluster_cannot_see_is_told_all_at_once(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "her2st").mkdir()
    (project / "sent.yaml").write_text("x" * 100)
    (project / "my.pem").write_text("")
    (project.parent / "outside.yaml").write_text("")
    monkeypatch.setattr(parcel, "MOST_BYTES", 50)
    found = problems(
        "experiments/sweep_hvg.py",
        *("--data", "her2st", "--shards=shards", "--out", "studies/mine", "--address", "auto", "--detach"),
        *("--config", "../outside.yaml", "--set", "sent.yaml", "--set", "my.pem"),
        *("--values", "s3://key:secret@lab/her2st"),
    )
    places = [place for place, _ in found]
    assert places == [
        *("--data", "--shards", "--out", "--address", "--detach", "--config", "--set", "--values", "size"),
    ]
    told = dict(found)
    assert "her2st lies on this machine" in told["--data"] and "aws s3 cp" in told["--data"]
    assert "senca prepare her2st --out s3://" in told["--data"]
    assert "lost with it" in told["--out"] and "leave it out" in told["--out"]
    assert "outside the current folder" in told["--config"] and "never travels" in told["--set"]
    assert "MB in all" in told["size"] and "secret" not in told["--values"]


def test_addresses_and_places_on_the_cluster_are_left_as_they_are(project: Path) -> None:
    options = ("--data", "/mnt/lab/her2st", "--shards", "gs://anonymous@lab/shards", "--out", "s3://lab/mine")
    packed = pack(Path("experiments/sweep_hvg.py"), options)
    assert packed.command[2:] == options and packed.out == "s3://lab/mine"


def test_a_study_file_runs_as_a_study_and_is_read_before_it_is_sent(project: Path) -> None:
    file = project / "configs" / "hvgs.yaml"
    file.write_text("name: hvgs\nsweep: {vary: hvgs, values: [500, 1000]}\ncohort: {data: raw}\nseeds: 0\n")
    (project / "raw").mkdir()
    assert [place for place, _ in problems("configs/hvgs.yaml")] == ["seeds"]
    file.write_text(file.read_text().replace("seeds: 0", "seeds: 1"))
    assert [place for place, _ in problems("configs/hvgs.yaml")] == ["cohort.data"]
    file.write_text(file.read_text().replace("data: raw", "data: s3://lab/her2st"))
    packed = pack(Path("configs/hvgs.yaml"), [])
    assert packed.command == ("senca", "study", "run", "configs/hvgs.yaml") and packed.home == "hvgs-her2st"
    assert pack(Path("configs/hvgs.yaml"), ["--data", "s3://lab/other"]).home == "hvgs-other"


def test_no_script_is_a_problem(project: Path) -> None:
    assert "no such file" in problems("experiments/none.py")[0][1]
    assert "another kind of file" in problems("configs")[0][1]


def test_other_versions_on_the_cluster_keep_the_script_from_starting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = [f"{name}={found}" for name, found in parcel.versions().items()]
    monkeypatch.setattr(sys, "argv", ["check_versions.py", *ours])
    check_versions.main()
    assert not capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["check_versions.py", "senca-ray=99.1", "python=2.7", "no-such=1"])
    with pytest.raises(SystemExit) as ended:
        check_versions.main()
    told = capsys.readouterr().out
    assert ended.value.code == 2 and "99.1 on the machine that submits" in told and "ray up" in told
    assert "python: 3." in told and "no-such: none on the cluster" in told


# Following a log


class Cluster:
    """Looks at a job as a test wants them answered."""

    def __init__(self, *looks: tuple[str, str] | Exception) -> None:
        self.looks = iter(looks)

    def look(self, job: str) -> tuple[Any, str]:
        answer = next(self.looks)
        if isinstance(answer, Exception):
            raise answer
        status, log = answer
        ended = SimpleNamespace(is_terminal=lambda: status != "RUNNING")
        return SimpleNamespace(status=ended), log


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_LOOK_EVERY", 0.0)
    monkeypatch.setattr(jobs, "_SHARE", 0)


def followed(*looks: tuple[str, str] | Exception) -> tuple[list[str], list[str]]:
    wrote: list[str] = []
    told: list[str] = []
    jobs.follow(Cluster(*looks), "job", wrote.append, told.append)  # type: ignore[arg-type]
    return wrote, told


@pytest.mark.usefixtures("at_once")
def test_nothing_of_a_log_is_lost_or_told_twice() -> None:
    wrote, told = followed(
        ("RUNNING", ""),
        ("RUNNING", "one\ntw"),
        ("RUNNING", "one\ntw"),
        Lost(""),
        ("RUNNING", "one\ntwo\n"),
        ("RUNNING", ""),  # the head cannot ask the machine that has the log
        *[Lost("")] * 4,
        ("SUCCEEDED", "one\ntwo\nthree\n"),
    )
    assert wrote == ["one\ntw", "o\n", "three\n"]
    assert told == ["connection lost; trying again", "connected again"]


@pytest.mark.usefixtures("at_once")
def test_patience_ends_and_what_waiting_cannot_mend_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Gone):
        followed(("RUNNING", "one"), Gone("unknown"))
    monkeypatch.setattr(jobs, "_PATIENCE", 0.0)
    with pytest.raises(Lost, match="out there"):
        followed(("RUNNING", "one"), Lost("out there"))


# Talking to a dashboard


class Stub(BaseHTTPRequestHandler):
    """Answers as a dashboard would: `answers` maps a path to status and content."""

    answers: dict[str, tuple[int, Any]]
    sent: list[dict[str, Any]]

    def do_GET(self) -> None:
        self._answer(*self.answers.get(self.path, (404, "Job does not exist.")))

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, "")

    def do_POST(self) -> None:
        """Take a job at the second try, and lose the answer to it."""
        self.sent.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        first = len(self.sent) == 1
        job = self.sent[-1]["submission_id"]
        self._answer(500, "No available agent" if first else f"ValueError: Job {job} already exists.")

    def _answer(self, status: int, content: Any) -> None:
        body = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


VERSION = "/api/version"


@contextmanager
def stub(**answers: tuple[int, Any]) -> Iterator[tuple[str, dict[str, tuple[int, Any]]]]:
    here: dict[str, tuple[int, Any]] = {VERSION: (200, {"ray_version": ray.__version__})}
    here |= {f"/api/jobs/{path}": answer for path, answer in answers.items()}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Stub,), {"answers": here, "sent": []}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", here
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def details(status: str, **more: object) -> dict[str, object]:
    return {"type": "SUBMISSION", "submission_id": "job", "status": status, "entrypoint": "true", **more}


@pytest.fixture(autouse=True)
def nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names other clusters, and a proxy that would see tokens: none of them answers."""
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # else it would be set for the tests that follow
    monkeypatch.setattr(cluster, "TOKEN_FILE", Path("/no/token"))
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")


def test_only_the_given_dashboard_is_asked() -> None:
    with stub() as (url, _):
        assert Dashboard(lambda: url).version() == ray.__version__
    assert os.environ["RAY_API_SERVER_ADDRESS"] == "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [
        (401, SencaError, "the cluster wants a token; copy"),
        (403, SencaError, "wants another token than this machine's; copy"),
        (502, Lost, "does not answer"),
        (200, SencaError, "no dashboard of Ray"),
    ],
)
def test_what_a_dashboard_answers_is_told_in_words(status: int, kind: type[SencaError], told: str) -> None:
    with stub() as (url, answers):
        answers[VERSION] = (status, {} if status == 200 else "no")
        with pytest.raises(kind, match=told) as caught:
            Dashboard(lambda: url).version()
    assert caught.type is kind


def test_an_unknown_job_and_a_dashboard_in_trouble_are_told_apart() -> None:
    with stub(broken=(500, "Traceback\n  ...\nUnicodeDecodeError: half a letter")) as (url, _):
        there = Dashboard(lambda: url)
        with pytest.raises(Gone, match="nope: the cluster knows no such job"):
            there.look("nope")
        with pytest.raises(Lost, match="half a letter"):
            there.look("broken")
    with pytest.raises(Lost, match="ray up"):
        there.look("nope")


@pytest.mark.parametrize(
    ("ended", "code", "told"),
    [
        (details("SUCCEEDED", driver_exit_code=0), 0, "job job succeeded"),
        (details("FAILED", driver_exit_code=3), 3, "job job failed"),
        (details("FAILED", driver_exit_code=-9), 137, "job job failed"),
    ],
)
def test_attach_ends_as_the_job_did(ended: dict[str, object], code: int, told: str) -> None:
    with stub(job=(200, ended), **{"job/logs": (200, {"logs": "no line end"})}) as (url, _):
        result = CliRunner().invoke(app, ["attach", "--address", url, "job"])
    assert result.exit_code == code and result.output == f"no line end\n{told}\n"


@pytest.mark.parametrize("status", ["STOPPED", "FAILED"])
def test_a_job_without_an_exit_code_says_how_to_go_on(status: str) -> None:
    ended = details(status, message="Job supervisor actor died: The node was lost.")
    with stub(job=(200, ended), **{"job/logs": (200, {"logs": ""})}) as (url, _):
        result = CliRunner().invoke(app, ["attach", "--address", url, "job"])
    assert "`senca submit` with the same command goes on where" in str(result.exception)
    assert status == "STOPPED" or "The node was lost" in str(result.exception)


def test_attach_lists_the_jobs_latest_first() -> None:
    first, second = (details("RUNNING", start_time=t) for t in (1_000, 2_000))
    first |= {"submission_id": "first", "metadata": {jobs.COMMAND: "python experiments/tune.py"}}
    driver = details("RUNNING") | {"submission_id": None, "type": "DRIVER"}
    with stub(**{"": (200, [first, second, driver])}) as (url, _):
        output = CliRunner().invoke(app, ["attach", "--address", url]).output
    assert [line.split()[0] for line in output.splitlines()[2:4]] == ["job", "first"]
    assert "tune.py" in output and "None" not in output


def test_another_ray_on_the_cluster_is_told_before_anything_is_sent(project: Path) -> None:
    with stub() as (url, answers):
        answers[VERSION] = (200, {"ray_version": "2.50.0"})
        result = CliRunner().invoke(app, ["submit", "--address", url, "experiments/sweep_hvg.py", "--help"])
    assert f"runs Ray 2.50.0, this machine {ray.__version__}" in str(result.exception)
    assert "ray up" in str(result.exception)


@pytest.mark.usefixtures("at_once")
def test_a_head_that_takes_no_jobs_yet_is_asked_again(project: Path) -> None:
    with stub() as (url, _):
        command = ["submit", "--address", url, "--detach", "experiments/sweep_hvg.py", "--seeds", "2"]
        result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.exception
    job = result.output.splitlines()[0].removeprefix("job ")
    assert job.startswith("sweep-hvg-2") and f"senca attach {job} --address {url}" in result.output


@pytest.mark.parametrize("address", ["127.0.0.1:8265", "ray://head:10001", "http://user:hidden@head:8265"])
def test_an_address_that_is_no_dashboards_is_told(address: str) -> None:
    with pytest.raises(SencaError, match="expected the URL") as caught, jobs.reached(address, Path("none")):
        pass
    assert "hidden" not in str(caught.value)


def test_a_token_file_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/no/such/file")
    with (
        pytest.raises(SencaError, match="/no/such/file: no such file"),
        jobs.reached("http://h", Path("none")),
    ):
        pass


def test_where_the_study_will_be_is_told_as_far_as_it_is_known() -> None:
    known = parcel.Parcel("hvgs", (), home="hvgs-her2st")
    assert "`senca pull s3://lab/senca/studies/hvgs-her2st`" in cli_submit._home(known, "s3://lab/senca")
    assert "the log names its folder" in cli_submit._home(known, None)
    unknown = parcel.Parcel("hvgs", ())
    assert "below s3://lab/senca/studies: the log names" in cli_submit._home(unknown, "s3://lab/senca")
    given = parcel.Parcel("hvgs", (), out="s3://lab/mine")
    assert "`senca pull s3://lab/mine`" in cli_submit._home(given, "s3://lab/senca")


# The tunnel

SSH = """
import os, socket, subprocess, sys, threading
open(os.environ["SSH_LOG"], "a").write(" ".join(sys.argv[1:]) + chr(10))
if os.path.exists(os.environ["SSH_LOG"] + ".refuse"):
    sys.exit("Permission denied (publickey).")
port = int(sys.argv[sys.argv.index("-L") + 1].split(":")[1])
def pump(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
        b.shutdown(socket.SHUT_WR)  # closing could reset what is still on its way
    except OSError:
        pass
def serve(listener):
    while True:
        near = listener.accept()[0]
        far = socket.create_connection(("127.0.0.1", int(os.environ["SSH_TO"])))
        for pair in ((near, far), (far, near)):
            threading.Thread(target=pump, args=pair, daemon=True).start()
threading.Thread(target=serve, args=(socket.create_server(("127.0.0.1", port)),), daemon=True).start()
print("a greeting", flush=True)
print("tunnel open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for ssh that forwards a port as ssh does; returns the file of its command lines."""
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable} -SE\n{SSH}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SSH_LOG", str(tmp_path / "ssh.log"))
    return tmp_path / "ssh.log"


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cluster file whose head Ray knows."""
    from ray.autoscaler import sdk

    monkeypatch.setattr(sdk, "get_head_node_ip", lambda path: "203.0.113.7")
    file = tmp_path / "cluster.yaml"
    file.write_text(
        "cluster_name: lab\nprovider: {type: local}\nhead_node_type: head\n"
        "available_node_types: {head: {resources: {CPU: 1}}}\n"
        "auth: {ssh_user: ubuntu, ssh_private_key: /keys/lab.pem}\n"
    )
    return file


def test_a_tunnel_is_opened_again_when_it_has_closed_and_ends_with_the_block(
    ssh: Path, head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "the-token")
    with stub(job=(200, details("RUNNING")), **{"job/logs": (200, {"logs": "one"})}) as (url, _):
        monkeypatch.setenv("SSH_TO", url.rpartition(":")[2])
        with jobs.reached(None, head) as there:
            assert there.look("job")[1] == "one"
            (before,) = psutil.Process().children()
            before.kill()
            wait_until(lambda: before.status() == psutil.STATUS_ZOMBIE, "the tunnel lives")
            # Its threads may outlive its first one by a moment: the next look is then the one that finds out.
            assert jobs._patiently(lambda: there.look("job"), lambda text: None, 30)[1] == "one"
            (again,) = psutil.Process().children()
        assert not again.is_running() and not before.is_running()
    first, second = (line.split() for line in ssh.read_text().splitlines())
    assert first[first.index("-L") + 1].startswith("127.0.0.1:")
    assert first[first.index("-L") + 1].endswith(":127.0.0.1:8265")
    assert "ubuntu@203.0.113.7" in second and second[second.index("-i") + 1] == "/keys/lab.pem"
    # As Ray does it: heads come and go, and with them their host keys.
    assert "StrictHostKeyChecking=no" in first and "ExitOnForwardFailure=yes" in first
    assert "the-token" not in ssh.read_text()


def test_an_ssh_that_fails_is_told_in_its_own_words(ssh: Path) -> None:
    ssh.with_name("ssh.log.refuse").touch()
    with pytest.raises(Lost, match=r"ubuntu@h: Permission denied \(publickey\)\.; try `ray attach`"):
        Tunnel(Head("ubuntu@h", ())).url()


def test_without_a_running_head_the_fix_is_told(head: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.autoscaler import sdk

    def none(path: str) -> str:
        print("what Ray prints")
        raise RuntimeError("Head node of cluster (lab) not found!")

    monkeypatch.setattr(sdk, "get_head_node_ip", none)
    with pytest.raises(SencaError, match=r"not found!.*`ray up .*cluster.yaml`"):
        tunnel.find_head(head)
    with pytest.raises(SencaError, match="no such file; give --cluster"):
        tunnel.find_head(head.with_name("other.yaml"))


# A real cluster


class Proxy:
    """What lies between laptop and cluster, and can be cut."""

    def __init__(self, to: int) -> None:
        (self.port,) = free_ports(1)
        self.to, self.open = to, list[socket.socket]()
        self.restore()

    def restore(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.thread = threading.Thread(target=self._serve, args=(self.listener,))
        self.thread.start()

    def cut(self) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()
        for end in self.open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.open.clear()

    def _serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                self.open.append(near := listener.accept()[0])
                self.open.append(far := socket.create_connection(("127.0.0.1", self.to)))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def real_head(tmp_path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """A head that wants a token: its dashboard's port, and the environment of who holds the token."""
    token = tmp_path / "token"
    token.write_text(secrets.token_hex(32))
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "HTTP_", "http_"))}
    clean |= {"RAY_AUTH_TOKEN_PATH": str(token), "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    clean["PATH"] = f"{Path(sys.executable).parent}:{clean['PATH']}"
    names = ("", "dashboard-", "ray-client-server-", "node-manager-", "object-manager-", "metrics-export-")
    names += ("runtime-env-agent-", "dashboard-agent-listen-", "dashboard-agent-grpc-")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    # A short name: sockets below it may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="sj", dir="/tmp", ignore_cleanup_errors=True) as temporary:
        command = ["ray", "start", "--head", "--block", "--num-cpus=1", "--dashboard-host=127.0.0.1"]
        command += ["--object-store-memory=80000000", "--min-worker-port=0", "--max-worker-port=0"]
        command += [f"--temp-dir={temporary}", *(f"--{name}port={port}" for name, port in ports.items())]
        log = (tmp_path / "head.log").open("w")
        with log, subprocess.Popen(command, env=clean, stdout=log, stderr=log, cwd=tmp_path) as head:
            try:
                said = (tmp_path / "head.log").read_text
                wait_until(lambda: "block forever" in said() or head.poll() is not None, "no head came up")
                assert head.poll() is None, said()
                yield ports["dashboard-"], clean
            finally:
                alive = head.poll() is None
                started = psutil.Process(head.pid).children(recursive=True) if alive else []
                head.kill()
                for process in started:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()


COUNT = """
import sys, time
from pathlib import Path
number = 0
while not Path(sys.argv[1]).exists():
    print("line", number)
    number += 1
    time.sleep(0.05)
sys.exit(3)
"""
SENCA = "from senca_ray.cli import main; main()"


def test_a_job_is_followed_through_a_broken_connection_and_left_by_ctrl_c(
    real_head: tuple[int, dict[str, str]], tmp_path: Path
) -> None:
    dashboard, environment = real_head
    (tmp_path / "count.py").write_text(COUNT)
    stop = tmp_path / "stop"
    proxy = Proxy(dashboard)
    address = f"http://127.0.0.1:{proxy.port}"
    logs: list[Path] = []
    started: list[subprocess.Popen[bytes]] = []

    def senca(*arguments: str) -> tuple[subprocess.Popen[bytes], Callable[[], str]]:
        log = tmp_path / f"senca-{len(logs)}.log"
        logs.append(log)
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", SENCA, *arguments],
                env=environment,
                cwd=tmp_path,
                stdout=output,
                stderr=subprocess.STDOUT,
                # These tests may run in a script's background, where Ctrl-C is ignored.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        started.append(process)
        return process, log.read_text

    try:
        submitted, seen = senca("submit", "--address", address, "count.py", str(stop))
        wait_until(lambda: "line 3\n" in seen() or submitted.poll() is not None, "no line came")
        assert submitted.poll() is None, seen()
        job = seen().splitlines()[0].removeprefix("job ")
        attached, seen_again = senca("attach", "--address", address, job)
        wait_until(lambda: "line 3\n" in seen_again() or attached.poll() is not None, "no line came")
        attached.send_signal(signal.SIGINT)
        assert attached.wait(PATIENCE) == 130
        assert f"senca attach {job} --address {address}" in seen_again()
        assert f"ray job stop {job} --address {address}" in seen_again()

        proxy.cut()
        wait_until(lambda: "connection lost; trying again\n" in seen(), "the cut was not noticed")
        proxy.restore()
        wait_until(lambda: "connected again\n" in seen(), "it did not connect again")
        stop.touch()
        assert submitted.wait(PATIENCE) == 3, seen()
    finally:
        proxy.cut()
        for process in started:
            process.kill()
            process.wait()
    numbers = [int(line.split()[1]) for line in seen().splitlines() if line.startswith("line ")]
    assert numbers == list(range(len(numbers))) and len(numbers) > 10
    assert f"job {job} failed" in seen()
    token = Path(environment["RAY_AUTH_TOKEN_PATH"]).read_text()
    assert not any(token in log.read_text() for log in logs)
