"""Proof: `sbatch deploy/slurm.sbatch experiments/sweep_neighbors.py` on a real Slurm of two machines.

A controller and two machines are made of namespaces on this one: each machine has its own network address,
name, /tmp and /dev/shm, and all see one folder, as on a cluster with a shared file system. Four jobs run, two
at a time; one is cancelled in the middle and submitted again, one is told that its time limit is near.
Whatever happens, nothing outlives this command. Linux and root only.
"""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import psutil  # type: ignore[import-untyped]

from senca_ray import keys
from senca_ray.files import write_json

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "proofs" / "results" / "slurm.json"
INSIDE = "SENCA_PROOF_INSIDE"
"""Set where this runs among namespaces of its own."""
SHARED = Path("/mnt")
"""What all machines see: the home, the folder that jobs are submitted from, Slurm's own state."""
PROJECT = SHARED / "project"
MACHINES = {"n1": "10.99.0.11", "n2": "10.99.0.12"}
CONTROLLER = "10.99.0.1"
PACKAGES = {
    "sbatch": "slurm-client",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "munged": "munge",
    "ip": "iproute2",
    "unshare": "util-linux",
    "setpriv": "util-linux",
}
"""Programs and their Debian packages."""
COMMAND = (
    "sbatch --nodes=2 --cpus-per-task=1 --gpus-per-node=0 --mem=3G deploy/slurm.sbatch "
    "experiments/sweep_neighbors.py --sample A1 --sample B1 --seeds 1 --set read_images=false"
)
"""What is tried; --out is added, so that the same study can be run several times."""
TRIAL = "ray::_Worker"
"""How Ray calls a process in which a trial is at work."""
MIDDLE = 4
"""Result rows after which a study counts as in its middle."""
PATIENCE = 1200.0
"""Seconds for anything to happen: very much more than it takes on a machine that does nothing else."""
NOT_COMPARED = (keys.SECONDS, keys.PEAK_MEMORY_MB)
"""Columns that measure the run, not the result."""

CONFIG = f"""ClusterName=proof
SlurmctldHost=controller({CONTROLLER})
SlurmUser=root
AuthInfo=cred_expire=5
StateSaveLocation={SHARED}/slurm/state
SlurmdSpoolDir={SHARED}/slurm/spool-%n
SlurmctldPidFile={SHARED}/slurm/controller.pid
SlurmdPidFile={SHARED}/slurm/%n.pid
SlurmctldLogFile={SHARED}/slurm/controller.log
SlurmdLogFile={SHARED}/slurm/%n.log
# Without control groups nobody sweeps up what a job leaves behind.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
KillWait=60
"""

# $1 address, $2 name: a machine becomes ready and runs Slurm's daemon.
MACHINE = """set -e
until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
ip link set lo up
ip address add "$1/24" dev eth0
ip link set eth0 up
ip route add default dev eth0  # leads nowhere; from it Ray learns the machine's address
hostname "$2"
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /dev/shm
exec slurmd -D -N "$2"
"""


def main() -> None:
    """Run the proof; SystemExit when it fails or cannot be run here."""
    require()
    if INSIDE not in os.environ:
        # Ends when this process does, however that ends, and with it all that runs inside.
        apart = "unshare --mount --net --ipc --uts --pid --fork --mount-proc --kill-child"
        inside = [*shlex.split(f"setpriv --pdeathsig KILL {apart}"), sys.executable, __file__]
        raise SystemExit(subprocess.run(inside, env=os.environ | {INSIDE: "1"}, check=False).returncode)
    began = time.monotonic()
    with slurm() as daemons:
        figures = prove(Watch(daemons))
    figures |= {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "slurm": run("sbatch --version").split()[-1],
        "ray": version("ray"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "seconds": round(time.monotonic() - began),
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    write_json(RESULT, figures)
    print(json.dumps(figures, indent=2))


def require() -> None:
    """End with SystemExit where this cannot run, with the fix."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise SystemExit("Slurm's machines are made of Linux namespaces: run this as root on Linux")
    missing = sorted({package for program, package in PACKAGES.items() if not shutil.which(program)})
    if missing:
        raise SystemExit(f"programs are missing: apt-get update && apt-get install -y {' '.join(missing)}")


def prove(watch: Watch) -> dict[str, Any]:
    """Run the four jobs; the figures."""
    print("two jobs at once on both machines; one is cancelled in the middle", flush=True)
    whole, cancelled = submit("whole"), submit("cancelled")
    watch.until("the second study's middle", lambda: rows("cancelled") >= MIDDLE)
    run(f"scancel {cancelled}")
    watch.until("the end of the cancelled job", lambda: state(cancelled) == "CANCELLED")
    left = rows("cancelled")
    watch.until("the end of the first job", lambda: ended(whole))
    finished("whole", whole)
    watch.nothing_left()

    print("the cancelled one submitted again; a third is told that its time limit is near", flush=True)
    again, limited = submit("cancelled"), submit("limited")
    watch.until("the third study's middle", lambda: rows("limited") >= MIDDLE)
    run(f"scancel --batch --signal=USR1 {limited}")
    watch.until(
        "the third job back in the queue", lambda: "Restarts=1" in run(f"scontrol show job {limited}")
    )
    watch.until("the end of the job submitted again", lambda: ended(again))
    watch.until("the end of the third job", lambda: ended(limited))
    finished("cancelled", again)
    finished("limited", limited)
    watch.nothing_left()

    table = results("whole")
    expect(left < len(table), "the study had ended before its job was cancelled: nothing is proved")
    for study in ("cancelled", "limited"):
        pd.testing.assert_frame_equal(table, results(study))
    expect(set(watch.trials) == set(MACHINES), f"trials were seen on {dict(watch.trials)}, not on both")
    expect(watch.most_jobs == 2, f"two jobs should have met on a machine, not {watch.most_jobs}")
    return {
        "slurm_is": "real: slurmctld and two slurmd, each in namespaces of its own; no control groups",
        "command": COMMAND,
        "looks_at_which_a_trial_was_at_work": dict(watch.trials),
        "jobs_at_once_on_a_machine": watch.most_jobs,
        "result_rows": len(table),
        "rows_when_cancelled": left,
        "tables_equal_but_for": list(NOT_COMPARED),
        "left_behind": "no process, no file, no token",
    }


class Watch:
    """Waits, and meanwhile looks at what runs on the machines."""

    def __init__(self, daemons: dict[str, psutil.Process]) -> None:
        self.daemons = daemons
        """Slurm's daemon on each machine."""
        self.trials: Counter[str] = Counter()
        """Of each machine, at how many looks a trial was at work."""
        self.most_jobs = 0
        """Ray nodes seen on a machine at once."""

    def until(self, what: str, happened: Callable[[], bool]) -> None:
        """Wait for something; SystemExit when it does not come."""
        deadline = time.monotonic() + PATIENCE
        while not happened():
            self._look()
            if time.monotonic() > deadline:
                fail(f"waited {PATIENCE:.0f} s in vain for {what}")
            time.sleep(2)
        print(f"  {what}", flush=True)

    def nothing_left(self) -> None:
        """Wait for the machines to be as they were before: SystemExit if something stays."""

        def left() -> list[object]:
            files = [
                file
                for daemon in self.daemons.values()
                for folder in ("tmp", "dev/shm")
                for file in Path(f"/proc/{daemon.pid}/root/{folder}").iterdir()
            ]
            return [p for p in self._processes() if p not in self.daemons.values()] + files + jobs()

        def jobs() -> list[Path]:
            return list(PROJECT.glob(".slurm-*"))

        deadline = time.monotonic() + 90
        while found := left():
            if time.monotonic() > deadline:
                fail(f"left behind: {found}")
            time.sleep(1)
        print("  nothing is left on the machines", flush=True)

    def _processes(self) -> dict[psutil.Process, str]:
        """What runs on the machines, and on which."""
        network = {network_of(daemon): name for name, daemon in self.daemons.items()}
        found = {}
        for process in psutil.process_iter():
            try:
                if (at := network_of(process)) in network:
                    found[process] = network[at]
            except OSError:
                continue  # has just ended
        return found

    def _look(self) -> None:
        tokens = []
        for file in PROJECT.glob(".slurm-*/token"):
            try:
                mode, token = file.stat().st_mode & 0o777, file.read_text().strip()
            except FileNotFoundError:
                continue  # its job has just ended
            expect(mode == 0o600, f"others can read {file}")
            tokens += [token] if token else []
        raylets, trials = Counter[str](), set()
        for process, machine in self._processes().items():
            try:
                command = " ".join(process.cmdline())
                environment = str(process.environ())
            except psutil.Error:
                continue
            for token in tokens:
                expect(token not in command + environment, f"the token is shown by: {command}")
            raylets[machine] += "/raylet/raylet " in command
            if command.startswith(TRIAL):
                trials.add(machine)
        self.trials.update(trials)
        self.most_jobs = max(self.most_jobs, *raylets.values(), 0)


def submit(study: str) -> str:
    """Submit the command as a user does; returns the job's number."""
    job = run(f"{COMMAND} --out studies/{study}").split()[-1]
    print(f"  job {job}: {COMMAND} --out studies/{study}", flush=True)
    return job


def about(job: str) -> str:
    """What Slurm says of the job."""
    return run(f"scontrol show job {job}")


def state(job: str) -> str:
    """The job's state in Slurm's words."""
    found = re.search(r"JobState=(\w+)", about(job))
    return found[1] if found else ""


def ended(job: str) -> bool:
    """Whether the job has ended for good."""
    return state(job) in {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}


def finished(study: str, job: str) -> None:
    """SystemExit unless the job ended well, on two Ray nodes, with a report."""
    log = (PROJECT / f"slurm-{job}.out").read_text()
    expect(state(job) == "COMPLETED", f"job {job} is {state(job)}")
    expect("2 of 2 Ray nodes are up" in log, f"job {job} did not have two Ray nodes")
    expect((PROJECT / "studies" / study / keys.REPORT_FILE).exists(), f"job {job} left no report")


def rows(study: str) -> int:
    """Result rows that the study has so far."""
    journal = PROJECT / "studies" / study / keys.JOURNAL_FILE
    return len(journal.read_bytes().splitlines()) if journal.exists() else 0


def results(study: str) -> pd.DataFrame:
    """The study's table in the order of its key, without what measures the run."""
    table = pd.read_parquet(PROJECT / "studies" / study / keys.RESULTS_FILE)
    return table.drop(columns=list(NOT_COMPARED)).sort_values(list(keys.ROW_KEY)).reset_index(drop=True)


@contextmanager
def slurm() -> Iterator[dict[str, psutil.Process]]:
    """A controller and two machines for the length of the block; Slurm's daemon on each machine."""
    run("mount --make-rprivate /")
    for place in ("/run", str(SHARED)):
        run(f"mount -t tmpfs -o mode=755 tmpfs {place}")
    for folder in ("home", "project", "slurm/state", "slurm/spool-n1", "slurm/spool-n2"):
        (SHARED / folder).mkdir(parents=True)
    for name in (".venv", "deploy", "experiments"):
        (PROJECT / name).symlink_to(ROOT / name)
    hosts = SHARED / "hosts"
    addresses = {"localhost": "127.0.0.1", "controller": CONTROLLER, **MACHINES}
    hosts.write_text("".join(f"{address} {name}\n" for name, address in addresses.items()))
    run(f"mount --bind {hosts} /etc/hosts")
    os.environ |= {"HOME": str(SHARED / "home"), "SLURM_CONF": str(SHARED / "slurm/slurm.conf")}
    nodes = "".join(
        f"NodeName={name} NodeAddr={at} CPUs=2 RealMemory=8000\n" for name, at in MACHINES.items()
    )
    (SHARED / "slurm/slurm.conf").write_text(f"{CONFIG}{nodes}PartitionName=all Nodes=ALL Default=YES\n")

    run("hostname controller")
    run("ip link set lo up")
    run("ip link add bridge0 type bridge")
    run(f"ip address add {CONTROLLER}/24 dev bridge0")
    run("ip link set bridge0 up")
    Path("/run/munge").mkdir()
    key = Path("/run/munge/key")
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    run("munged --force --key-file=/run/munge/key --log-file=/run/munge/log --seed-file=/run/munge/seed")
    # From here on in the project's folder and with a user's variables only.
    os.chdir(PROJECT)
    begin("slurmctld -D")
    daemons = {}
    for name, address in MACHINES.items():
        apart = "unshare --mount --net --ipc --uts sh -c"
        machine = begin(f"{apart} {shlex.quote(MACHINE)} sh {address} {name}")
        until_unshared(machine)
        run(f"ip link add veth-{name} type veth peer name eth0 netns {machine.pid}")
        run(f"ip link set veth-{name} master bridge0 up")
        daemons[name] = psutil.Process(machine.pid)
    deadline = time.monotonic() + 120
    while run("sinfo --noheader --format=%D-%t").split() != ["2-idle"]:
        if time.monotonic() > deadline:
            fail("the machines did not join:\n" + run("sinfo"))
        time.sleep(0.5)
    yield daemons


def until_unshared(process: subprocess.Popen[bytes]) -> None:
    """Wait until the process is in a network of its own."""
    while network_of(psutil.Process(process.pid)) == network_of(psutil.Process()):
        time.sleep(0.02)


def network_of(process: psutil.Process) -> int:
    """Number of the network namespace that a process is in; raises OSError when it has ended."""
    return Path(f"/proc/{process.pid}/ns/net").stat().st_ino


def begin(command: str) -> subprocess.Popen[bytes]:
    """Begin a command that runs until this process ends; what it says is in Slurm's logs."""
    return subprocess.Popen(
        shlex.split(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=(SHARED / "slurm/said").open("ab"),
    )


def run(command: str) -> str:
    """Run a command to its end; returns what it says, SystemExit when it fails."""
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=False)
    if done.returncode:
        fail(f"{command}: {done.stderr or done.stdout}")
    return done.stdout


def expect(true: bool, otherwise: str) -> None:
    """SystemExit unless what should be true is."""
    if not true:
        fail(otherwise)


def fail(why: str) -> NoReturn:
    """SystemExit, with what the jobs and Slurm's daemons said."""
    logs = [*PROJECT.glob("slurm-*.out"), *PROJECT.glob(".slurm-*/*.log"), *SHARED.glob("slurm/*.log")]
    told = "".join(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}\n" for log in sorted(logs))
    raise SystemExit(f"{told}FAILED: {why}")


if __name__ == "__main__":
    main()
