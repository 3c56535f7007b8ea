"""A loopback server that speaks the part of W&B's API by which runs, artifacts and reports are sent.

And what tests of W&B need besides: the environment of a user, and runs on disk read back.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from wandb.util import get_core_path

KEY = "d" * 40
ENTITY = "lab"
_CREATED = "2026-11-21T10:00:00Z"


@contextmanager
def user(home: Path, **variables: str) -> Iterator[None]:
    """The environment of a user who never used W&B and set these variables of it."""
    with pytest.MonkeyPatch.context() as patch:
        names = ("API_KEY", "MODE", "BASE_URL", "DATA_DIR", "ENTITY", "DIR", "HTTP_TIMEOUT")
        for name in names:
            patch.delenv(f"WANDB_{name}", raising=False)
        patch.setenv("HOME", str(home))
        patch.setenv("NETRC", str(home / "netrc"))
        for name, value in variables.items():
            patch.setenv(f"WANDB_{name}", value)
        yield


def records(folder: Path) -> list[dict[str, Any]]:
    """Everything in a run on disk, as W&B itself reads it (what `wandb leet inspect` starts)."""
    command = [get_core_path(), "leet", "inspect", "--no-observability", "--json"]
    file = next(folder.glob("*.wandb"))
    command += ["--run-file", str(file), str(folder.parent)]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return [json.loads(line) for line in told.splitlines()]


@dataclass
class StubRun:
    """What the server knows of a run."""

    told: dict[str, Any] = field(default_factory=dict)
    """Variables of the request that made it: groupName, jobType, tags, displayName, ..."""
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    complete: bool = False


@dataclass
class StubServer:
    """A running server, and what it was sent."""

    url: str
    runs: dict[str, StubRun] = field(default_factory=dict)
    artifacts: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Files by collection."""
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Variables of the requests that stored them, by id."""
    bodies: list[bytes] = field(default_factory=list)
    """Every request, to search for what must not be sent."""
    answers: int | None = None
    """Status of every answer where it is not to work."""
    takes: int | None = None
    """How many runs it takes before it answers no more."""
    hung: threading.Event = field(default_factory=threading.Event)
    """Set at the end, so that requests without an answer let go."""


@contextmanager
def running(answers: int | None = None, takes: int | None = None) -> Iterator[StubServer]:
    """A server on a free port of this machine, for as long as the block runs."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    http.daemon_threads = True
    stub = StubServer(f"http://127.0.0.1:{http.server_port}", answers=answers, takes=takes)
    http.stub = stub  # type: ignore[attr-defined]
    # A client that is stopped leaves its connections; that is no fault of a test.
    http.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        stub.hung.set()
        http.shutdown()
        http.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        stub: StubServer = self.server.stub  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        stub.bodies.append(body)
        if stub.answers:
            self._answer({"errors": [{"message": "no"}]}, stub.answers)
        elif self.path == "/graphql":
            asked = json.loads(body)
            name = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            given = asked.get("variables") or {}
            new = name and name[1] == "UpsertBucket" and given["name"] not in stub.runs
            if new and stub.takes is not None and len(stub.runs) >= stub.takes:
                stub.hung.wait()
            self._answer({"data": _graphql(stub, name[1] if name else "", given)})
        elif found := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            _stream(stub.runs[found[1]], json.loads(body))
            self._answer({})
        else:
            self._answer({})

    def do_PUT(self) -> None:
        stub: StubServer = self.server.stub  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        stub.bodies.append(body)
        _, kind, owner, name = self.path.split("/", 3)
        files = stub.runs[owner].files if kind == "run" else stub.artifacts[owner]
        files[name] = body
        self._answer({})

    def do_GET(self) -> None:
        self._answer({})

    def _answer(self, content: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _stream(run: StubRun, sent: dict[str, Any]) -> None:
    """Lines of a run's files; a later chunk continues, or repeats, an earlier one."""
    for name, chunk in (sent.get("files") or {}).items():
        lines = [json.loads(line) for line in chunk["content"]]
        if name == "wandb-history.jsonl":
            run.history[chunk["offset"] :] = lines
        elif name == "wandb-summary.json":
            run.summary = lines[-1]
    run.complete |= bool(sent.get("complete"))


def _graphql(stub: StubServer, name: str, given: dict[str, Any]) -> dict[str, Any]:
    answer = globals().get(f"_{name[0].lower()}{name[1:]}")
    return answer(stub, given) if answer else {}


def _viewer(stub: StubServer, given: dict[str, Any]) -> dict[str, Any]:
    return {"viewer": {"id": "u", "username": "someone", "entity": ENTITY, "teams": {"edges": []}}}


def _upsertBucket(stub: StubServer, given: dict[str, Any]) -> dict[str, Any]:
    inserted = given["name"] not in stub.runs
    run = stub.runs.setdefault(given["name"], StubRun())
    run.told |= {key: value for key, value in given.items() if value is not None}
    if given.get("config"):
        run.config = {key: one["value"] for key, one in json.loads(given["config"]).items()}
    project = {"id": "p", "name": given["project"], "entity": {"id": "e", "name": ENTITY}}
    bucket = {"id": given["name"], "name": given["name"], "displayName": given.get("displayName") or ""}
    bucket |= {"sweepName": None, "historyLineCount": len(run.history), "project": project}
    return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}


def _createRunFiles(stub: StubServer, given: dict[str, Any]) -> dict[str, Any]:
    run = given["run"]
    files = [{"name": name, "uploadUrl": f"{stub.url}/run/{run}/{name}"} for name in given["files"]]
    return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": files}}


def _createArtifact(stub: StubServer, given: dict[str, Any]) -> dict[str, Any]:
    name = given["input"]["artifactCollectionName"]
    stub.artifacts[name] = {}
    sequence = {"id": name, "latestArtifact": None}
    return {"createArtifact": {"artifact": {"id": name, "state": "PENDING", "artifactSequence": sequence}}}


def _createArtifactManifest(stub: StubServer, given: dict[str, Any]) -> dict[str, Any]:
    where = f"{stub.url}/artifact/{given['artifactID']}/{given['name']}"
    file = {"id": "f", "name": given["name"], "displayName": "", "uploadUrl": where, "uploadHeaders": []}
    return {"createArtifactManifest": {"artifactManifest": {"id": given["artifactID"], "file": file}}}


def _createArtifactFiles(stub: StubServer, given: dict[str, Any]) -> dict[str, Any]:
    nodes = []
    for spec in given["input"]["artifactFiles"]:
        where = f"{stub.url}/artifact/{spec['artifactID']}/{spec['name']}"
        node = {"id": "f", "name": spec["name"], "displayName": spec["name"], "uploadUrl": where}
        node |= {"uploadHeaders": [], "artifact": {"id": spec["artifactID"]}, "storagePath": "x"}
        nodes.append({"node": node | {"uploadMultipartUrls": None}})
    return {"createArtifactFiles": {"files": {"edges": nodes}}}


def _commitArtifact(stub: StubServer, given: dict[str, Any]) -> dict[str, Any]:
    return {"commitArtifact": {"artifact": {"id": given["artifactID"], "digest": ""}}}


def _upsertView(stub: StubServer, given: dict[str, Any]) -> dict[str, Any]:
    stored = given.get("id") or f"report{len(stub.reports)}"
    stub.reports[stored] = given
    view = {name: given[name] for name in ("type", "name", "displayName", "description", "spec")}
    view["project"] = {"id": "p", "name": given["projectName"], "entityName": given["entityName"]}
    return {"upsertView": {"view": view | {"id": stored, "updatedAt": _CREATED}, "inserted": True}}


def _getProjects(stub: StubServer, given: dict[str, Any]) -> dict[str, Any]:
    projects = {run.told["project"] for run in stub.runs.values()}
    known = {"entityName": ENTITY, "createdAt": _CREATED, "isBenchmark": False, "user": None}
    edges = [{"node": {"id": name, "name": name} | known} for name in sorted(projects)]
    return {"models": {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}}
