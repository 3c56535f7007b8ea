"""The repository's own cluster, brought up by `ray up` on hosts of this machine instead of a cloud's."""

from __future__ import annotations

import json
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hosts import ROOT, Host, Network, Storage

from senca_ray.cloud.cluster_file import CLUSTER_FILE, read_cluster_file

_CLOUD = ("provider", "auth", "docker", "head_node_type", "available_node_types")
"""Sections about a cloud's machines, which the hosts stand in for; all others stay as they are."""
_WORKER: dict[str, float] = {"CPU": 1}
"""What a worker host has: so that two share this machine's cores."""
_FILE = "cluster.yaml"
_UP = 900.0
"""Seconds for the workers to join; much more than a slow machine needs."""

_PIP = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_ROOT_USER_ACTION": "ignore"}
"""Hosts reach no package index: what the set-up installs has its dependencies in the environment ("0" is how
pip spells it)."""


def here(cluster: Mapping[str, Any], head: str, workers: list[str], key: str) -> dict[str, Any]:
    """The cluster file for Ray's `local` provider, which knows addresses instead of kinds of machines."""
    return {
        **{name: section for name, section in cluster.items() if name not in _CLOUD},
        "provider": {"type": "local", "head_ip": head, "worker_ips": workers},
        "auth": {"ssh_user": "root", "ssh_private_key": key},
        "min_workers": len(workers),
        "max_workers": len(workers),
    }


def resources(cluster: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """What Ray tells machines of all providers but `local` that they have: the head, and a worker host."""
    head = cluster["available_node_types"][cluster["head_node_type"]]["resources"]
    return ({"RAY_OVERRIDE_RESOURCES": json.dumps(head)}, {"RAY_OVERRIDE_RESOURCES": json.dumps(_WORKER)})


@dataclass
class Look:
    """What was seen of the cluster at one moment."""

    at: float
    """Seconds of this machine's monotonic clock."""
    nodes: dict[str, dict[str, float]]
    """Resources of every live node, by its address."""
    groups: list[tuple[dict[str, float], str]]
    """Placement groups in use: what each holds, and the address of its node."""


@dataclass
class Watch:
    """What a process on the head sees of the cluster, a few times a second."""

    looks: list[Look] = field(default_factory=list)
    ended: dict[str, dict[str, float]] = field(default_factory=dict)
    """For each study's working folder on the head: when the rows of a trial were there."""
    said: list[str] = field(default_factory=list)
    """What else it says: errors."""

    def follow(self, lines: Iterator[str]) -> None:
        """Take in what the process writes, until it ends."""
        for line in lines:
            if not line.startswith("{"):
                self.said.append(line)
                continue
            told = json.loads(line)
            for study, trials in told["ended"].items():
                for trial in trials:
                    self.ended.setdefault(study, {}).setdefault(trial, told["at"])
            groups = [(held, node) for held, node in told["groups"]]
            self.looks.append(Look(told["at"], told["nodes"], groups))


# Runs on the head. A driver of its own, which takes no resources.
_WATCH = r"""
import json, os, time
from pathlib import Path
if Path("~/.ray/auth_token").expanduser().exists():
    os.environ["RAY_AUTH_MODE"] = "token"
import ray
from ray.util.placement_group import placement_group_table
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
read = {}
while True:
    nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
    groups = []
    for group in placement_group_table().values():
        if group["state"] == "CREATED":
            for number, held in group["bundles"].items():
                node = nodes.get(group["bundles_to_node_id"].get(number))
                groups.append((held, node["NodeManagerAddress"] if node else "lost"))
    ended = {}
    for base in (Path.home() / ".cache/senca_ray/studies", Path.home() / "senca/studies"):
        for journal in base.glob("*/journal.jsonl"):
            with journal.open("rb") as file:
                file.seek(read.get(journal, 0))
                whole = file.read()
            whole = whole[: whole.rfind(b"\n") + 1]
            read[journal] = read.get(journal, 0) + len(whole)
            rows = map(json.loads, whole.splitlines())
            trials = {f"{row['method']}, {row['setting']}, {row['sample']}" for row in rows}
            ended[journal.parent.name] = sorted(trials)
    seen = {node["NodeManagerAddress"]: node["Resources"] for node in nodes.values()}
    print(json.dumps({"at": time.monotonic(), "nodes": seen, "groups": groups, "ended": ended}), flush=True)
    time.sleep(0.3)
"""


@dataclass
class Cluster:
    """A cluster that is up."""

    laptop: Host
    head: Host
    workers: list[Host]
    address: str
    """SENCA_STORAGE of its hosts."""
    transcript: str
    """What `ray up` said."""
    seconds: dict[str, float]
    """How long the head took, and how long all workers took."""
    watch: Watch

    def begin(self, command: str) -> subprocess.Popen[str]:
        """Begin a command on the head, from the laptop."""
        return self.laptop.begin(f"cd {ROOT} && ray exec {_FILE_PATH} {shlex.quote(command)}")

    def run(self, command: str) -> str:
        """Run a command on the head, from the laptop; raises SystemExit if it fails."""
        return self.laptop.run(f"cd {ROOT} && ray exec {_FILE_PATH} {shlex.quote(command)}").stdout


_FILE_PATH = f"~/{_FILE}"


@contextmanager
def cluster_here(network: Network, storage: Storage, workers: int = 2) -> Iterator[Cluster]:
    """Bring up cluster.yaml on hosts: a laptop that has the token and the key, a head, and workers."""
    given = read_cluster_file(ROOT / CLUSTER_FILE)
    address = f"s3://{storage.bucket}/senca"
    text = (ROOT / CLUSTER_FILE).read_text(encoding="utf-8")
    # The one thing in it that is the user's own.
    cluster = yaml.safe_load(text.replace(given.storage, address) if given.storage else text)
    of_head, of_worker = (found | storage.environment | _PIP for found in resources(cluster))
    laptop = network.start("laptop")
    head = network.start("head", of_head)
    others = [network.start(f"worker{number + 1}", of_worker) for number in range(workers)]
    for host in (head, *others):
        # A cloud's machine may have all that the package needs, but not the package; from its own layer only.
        host.run("python -m pip uninstall --quiet --yes senca-ray")
    laptop.write("key", network.key.read_text())
    key = str(Path.home() / "key")
    laptop.write(_FILE, yaml.safe_dump(here(cluster, head.address, [w.address for w in others], key)))
    laptop.run("ray get-auth-token --generate >/dev/null")
    began = time.monotonic()
    up = f"cd {ROOT} && ray up {_FILE_PATH} --no-config-cache -y"
    said = laptop.run(up).stdout
    seconds = {"head": time.monotonic() - began}
    head.write("watch.py", _WATCH)
    watch = Watch()
    process = head.begin("python watch.py")
    assert process.stdout is not None
    threading.Thread(target=watch.follow, args=(process.stdout,), daemon=True).start()
    try:
        found = Cluster(laptop, head, others, address, said, seconds, watch)
        while not (watch.looks and len(watch.looks[-1].nodes) == workers + 1):
            if time.monotonic() - began > _UP or process.poll() is not None:
                logs = head.run("tail -n 60 /tmp/ray/session_latest/logs/monitor.*", check=False).stdout
                more = "".join(watch.said)
                raise SystemExit(f"not all hosts joined the cluster:\n{said[-3000:]}\n{logs}\n{more}")
            time.sleep(0.3)
        seconds["all"] = time.monotonic() - began
        for host in (head, *others):
            file = host.run("cd / && python -c 'import senca_ray; print(senca_ray.__file__)'").stdout.strip()
            if not file.endswith(f"{Path.home()}/senca/senca_ray/__init__.py"):
                raise SystemExit(f"{host.name} runs {file}, not what `ray up` sent it")
        yield found
    finally:
        process.kill()
        process.wait()
