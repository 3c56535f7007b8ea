"""Proof: a study makes an empty cluster grow, follows it, and leaves it empty.

A head without CPUs and Ray's autoscaler, version 1 and 2, with a provider that starts workers as processes of
this machine instead of renting any. All of it in namespaces of its own: no port is open, nothing stays.

1. No worker is there. The trials under way are as many as the cluster may come to have room for, one worker's
   at first; the autoscaler starts it.
2. The cluster file allows three: more trials are under way, three workers come, trials run on each.
3. The file allows one: the autoscaler takes two away under running trials; these are run again on what is
   left, and the study finishes.
4. Workers that are idle leave.
5. Where the file has only machines with a GPU (pretended), trials ask for GPUs although there is none yet.

    .venv/bin/python proofs/autoscaling.py     # about 4 minutes; writes proofs/results/autoscaling.json
    .venv/bin/python proofs/autoscaling.py v2  # one of the two

Needs Linux and `unshare`, as root or where users may make namespaces.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ADDRESS, PORT = "10.99.0.1", 6379
HEAD = 51 * "f" + "00000"
"""The id that the provider knows the head by."""
PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
IDLE_SECONDS, PATIENCE = 6.0, 240.0
"""After which an idle worker leaves; for which this waits for anything."""
TRIALS, GPU_TRIALS = 24, 6
SECONDS = 1.0
"""Of a trial, where it waits for nothing."""
WORKERS, GROWN, SHRUNK = "workers", "grow", "shrink"
"""Folder of what trials noted; files that say that more workers, or fewer, were asked for."""
INSIDE = "--inside"
RESULT = Path(__file__).parent / "results" / "autoscaling.json"


def main() -> None:
    """Prove it for both versions, each in namespaces of its own."""
    if INSIDE in sys.argv:
        inside(sys.argv[2], Path(sys.argv[3]))
        return
    if not shutil.which("unshare"):
        sys.exit("unshare is not there; install util-linux")
    result: dict[str, Any] = {}
    for version in sys.argv[1:] or ("v1", "v2"):
        print(f"autoscaler {version}", flush=True)
        result[version] = _in_namespaces(version)
    if len(result) == 2:
        _write(result)


def _in_namespaces(version: str) -> dict[str, Any]:
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    alone = ["unshare", *user, "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    folder = Path(tempfile.mkdtemp(prefix="senca-"))
    try:
        ran = subprocess.run([*alone, sys.executable, __file__, INSIDE, version, str(folder)], check=False)
        if ran.returncode:
            for log in folder.glob("ray/session_2*/logs/monitor.log"):
                told = [line for line in log.read_text().splitlines() if "node" in line.lower()]
                print("the autoscaler's log:", *told[-15:], sep="\n")
            sys.exit(f"autoscaler {version}: the proof failed")
        figures: dict[str, Any] = json.loads((folder / "figures.json").read_text())
        return figures
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def inside(version: str, folder: Path) -> None:
    """Prove it for one version; the processes started here end with this one."""
    for command in ("link set lo up", f"addr add {ADDRESS}/32 dev lo", "route add default dev lo"):
        subprocess.run(["ip", *command.split()], check=True)
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD,
        "RAY_enable_autoscaler_v2": str(int(version == "v2")),
        "RAY_raylet_start_wait_time_s": "120",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "HOME": str(folder),  # where a token is made
        "RAY_AUTH_MODE": "token",
    }
    ray_command = str(Path(sys.executable).parent / "ray")
    subprocess.run([ray_command, "get-auth-token", "--generate"], check=True, stdout=subprocess.DEVNULL)
    file = folder / "cluster.yaml"
    write_cluster_file(file, "cpu", 1)
    start = [ray_command, "start", "--head", f"--node-ip-address={ADDRESS}", f"--port={PORT}", "--num-cpus=0"]
    quiet = [f"--temp-dir={folder}/ray", "--include-dashboard=false", f"--autoscaling-config={file}"]
    subprocess.run([*start, *quiet], check=True, stdout=subprocess.DEVNULL)

    from senca_ray import cluster

    for name in ("RAY_CLOUD_INSTANCE_ID", "RAY_OVERRIDE_NODE_ID_FOR_TESTING"):
        del os.environ[name]
    # `connected` takes the connection that is there; this one gives workers a pretended GPU's size.
    for name, value in cluster._ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    hook = {"worker_process_setup_hook": pretend_gpu}
    ray.init(f"{ADDRESS}:{PORT}", log_to_driver=False, logging_level="ERROR", runtime_env=hook)
    with cluster.connected():
        figures = {"cpu": prove_growth(folder, file), "gpu": prove_gpus(folder, file)}
    (folder / "figures.json").write_text(json.dumps(figures))


def write_cluster_file(path: Path, kind: str, machines: int) -> None:
    """A cluster of so many machines at most, each with one CPU, of kind gpu with one GPU too."""
    resources = {"CPU": 1} | ({"GPU": 1} if kind == "gpu" else {})
    config = {
        "cluster_name": "autoscaling",
        "max_workers": machines,
        "upscaling_speed": 3.0,
        "idle_timeout_minutes": IDLE_SECONDS / 60,
        "provider": {
            "type": "external",
            "module": PROVIDER,
            "gcs_address": f"{ADDRESS}:{PORT}",
            "head_node_id": HEAD,
            "launch_multiple": True,
            "use_node_id_as_ip": True,  # all machines are this one
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            kind: {"resources": resources, "node_config": {}, "min_workers": 0, "max_workers": machines},
        },
    }
    config |= {key: {} for key in ("auth", "docker", "file_mounts")}
    config |= {key: [] for key in ("cluster_synced_files", "rsync_exclude", "rsync_filter")}
    steps = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    config |= {f"{step}_commands": [] for step in steps} | {"file_mounts_sync_continuously": False}
    # Whole or not at all: the autoscaler reads it again every second. JSON is YAML.
    path.with_suffix(".new").write_text(json.dumps(config))
    path.with_suffix(".new").rename(path)


def prove_growth(folder: Path, file: Path) -> dict[str, Any]:
    """Steps 1 to 4."""
    from senca_ray.study.packing import Packing

    check("no worker at the beginning", cpus() == 0)
    packing, seen = Packing(), [(0.0, 0, 0)]
    check("one trial under way for the one machine that may come", packing.slots() == 1)
    folder, began = folder / "cpu", time.monotonic()
    (folder / WORKERS).mkdir(parents=True)

    def told(ended: int) -> None:
        for count, machines, asked in ((2, 3, GROWN), (12, 1, SHRUNK)):
            if ended == count:
                write_cluster_file(file, "cpu", machines)
                (folder / asked).touch()
                say(f"{ended} trials have ended: the cluster file allows {machines} from now on")

    def look() -> None:
        now = (cpus(), packing.slots())
        if now != seen[-1][1:]:
            seen.append((round(time.monotonic() - began, 1), *now))
            say(f"{seen[-1][0]:6.1f} s: {now[0]} workers; {now[1]} trials may be under way")
        if (folder / SHRUNK).exists() and now[0] <= 1:
            (folder / SHRUNK).with_suffix(".done").touch()

    with _watched(look):
        stamps, failed = study(folder, TRIALS, told)
    took = time.monotonic() - began
    workers = {stamp["node"] for stamp in stamps}
    finished = {stamp["trial"] for stamp in stamps}
    again = len(list((folder / WORKERS).glob("*.begun"))) - len(finished)
    check(f"all {TRIALS} trials have their rows", failed == 0 and len(finished) == TRIALS)
    check("trials ran on three workers", len(workers) >= 3)
    check("trials whose worker was taken away were run again", again >= 1)
    slots = [row[2] for row in seen[1:]]
    check("first one, then three, then one trial could be under way", _runs(slots) == [1, 3, 1])
    waited = wait_until(lambda: cpus() == 0)
    check("idle workers have left", cpus() == 0)
    return {
        "trials": TRIALS,
        "run_again": again,
        "seconds": round(took, 1),
        "workers": len(workers),
        "empty_after_seconds": round(waited, 1),
        "seconds_workers_slots": seen[1:],
    }


def _runs(values: list[int]) -> list[int]:
    """The values without repetitions one after the other."""
    return [value for i, value in enumerate(values) if not i or value != values[i - 1]]


def prove_gpus(folder: Path, file: Path) -> dict[str, Any]:
    """Step 5."""
    import ray

    from senca_ray.study.packing import Packing

    write_cluster_file(file, "gpu", 2)
    check("no GPU at the beginning", ray.cluster_resources().get("GPU", 0) == 0)
    packing = Packing()
    check("trials ask for a whole GPU, two at once", (packing.share(), packing.slots()) == (1.0, 2))
    stamps, failed = study(folder / "gpu", GPU_TRIALS, lambda ended: None)
    check(
        f"all {GPU_TRIALS} trials ran, each on a GPU",
        not failed and all(s["device"] == "cuda" for s in stamps),
    )
    waited = wait_until(lambda: cpus() == 0)
    check("idle workers have left", cpus() == 0)
    return {
        "trials": GPU_TRIALS,
        "workers": len({stamp["node"] for stamp in stamps}),
        "empty_after_seconds": round(waited, 1),
    }


def study(folder: Path, count: int, told: Callable[[int], None]) -> tuple[list[dict[str, Any]], int]:
    """Run so many sleeping trials; returns what each has noted, and how many rows failed."""
    import functools

    import ray

    from senca_ray import keys
    from senca_ray.analysis.aggregator import aggregator
    from senca_ray.bench.rows import made_up_trial
    from senca_ray.methods import MODEL
    from senca_ray.study.grid import GridPlan
    from senca_ray.study.runner import run_plan

    (folder / WORKERS).mkdir(parents=True, exist_ok=True)
    todo = [made_up_trial(MODEL, f"trial={i}", "S0", 1) for i in range(count)]
    sink = aggregator(folder)
    work = functools.partial(sleep_trial, folder=str(folder))
    run_plan(GridPlan(todo, lambda trial: False), sink, folder, told, run=work)
    rows = ray.get(sink.progress.remote())
    ray.kill(sink)
    stamps = (folder / WORKERS).glob("*.json")
    return [json.loads(file.read_text()) for file in stamps], rows[keys.FAILED]


def sleep_trial(
    trial: Any, *, folder: str, device: str = "cpu", checkpoint: object = None
) -> list[dict[str, Any]]:
    """In place of `run_trial`: note where it runs, and wait for what is asked of the cluster."""
    import uuid

    import numpy as np
    import ray

    from senca_ray.bench.rows import made_up_rows

    node, workers = ray.get_runtime_context().get_node_id(), Path(folder) / WORKERS
    (workers / f"{uuid.uuid4().hex}.begun").touch()
    (workers / f"{node}.node").touch()
    time.sleep(SECONDS)
    shrink = Path(folder) / SHRUNK
    if shrink.exists():
        wait_until(shrink.with_suffix(".done").exists)
    elif (Path(folder) / GROWN).exists():
        wait_until(lambda: len(list(workers.glob("*.node"))) >= 3 or shrink.exists())
    stamp = {"trial": trial.label, "node": node, "device": device}
    (workers / f"{uuid.uuid4().hex}.json").write_text(json.dumps(stamp))
    return made_up_rows(trial, np.random.default_rng(0))


def pretend_gpu() -> None:
    """In every worker: a card of 16 GB, for the workers that say they have one."""
    from types import SimpleNamespace

    import torch

    torch.cuda.get_device_properties = lambda device=None: SimpleNamespace(total_memory=16 * 2**30)


def cpus() -> int:
    """CPUs of the workers that are there."""
    from senca_ray import cluster

    return int(cluster.resources().get("CPU", 0))


def wait_until(true: Callable[[], bool]) -> float:
    """Seconds until it was true; gives up after some minutes."""
    began = time.monotonic()
    while not true() and time.monotonic() - began < PATIENCE:
        time.sleep(0.5)
    return time.monotonic() - began


@contextmanager
def _watched(look: Callable[[], None]) -> Iterator[None]:
    """Look every second while the block runs."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1.0):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def check(what: str, holds: bool) -> None:
    """Say what was proved, or end."""
    say(f"{'yes' if holds else 'NO '}  {what}")
    if not holds:
        sys.exit(f"not so: {what}")


def say(text: str) -> None:
    """At once, also into a pipe."""
    print(f"  {text}", flush=True)


def _write(result: dict[str, Any]) -> None:
    from senca_ray.bench.machine import describe
    from senca_ray.files import write_json

    RESULT.parent.mkdir(exist_ok=True)
    write_json(RESULT, {"date": datetime.date.today().isoformat(), "machine": describe()} | result)
    print(f"written to {RESULT}")


if __name__ == "__main__":
    main()
