"""Proof: a study outlives a machine. `ray up cluster.yaml`, but for the provider, on hosts of this machine.

A laptop brings up a head and two workers, each a host of its own (see hosts.py), with their storage on a
loopback S3. `experiments/sweep_neighbors.py` runs on the head; then once more, and when a third of its trials
have ended, one worker is taken away, without a word, and comes back with nothing but its disk. The study has
to finish with the table of the undisturbed one.

With Ray's provider for hosts (`local`) the autoscaler can only start Ray again on a machine that came back;
that it asks a cloud for another one instead is not tried here.

Linux and root; `apt-get install -y iproute2 openssh-server rsync`. Options are handed to the experiment, to
try the proof itself on less (--sample A1 --seeds 2); its result is kept only without any.
"""

from __future__ import annotations

import datetime
import io
import os
import shlex
import sys
import threading
import time
from typing import Any

import pandas as pd
from cluster_here import Cluster, Look, cluster_here
from hosts import ROOT, Storage, network, storage
from small_study import MEASURED, say

from senca_ray import keys
from senca_ray.files import write_json
from senca_ray.study.trial import versions

RESULT = ROOT / "proofs/results/two_hosts.json"
_STUDY = "sweep-neighbors-simulated"
_QUIET = "undisturbed"
"""Name of the study that nothing happens to."""
_KILL_AT = 1 / 3
_PATIENCE = 3000.0
"""Seconds for a study; some minutes on an idle machine."""


def main(options: list[str]) -> None:
    """Print what happens, write RESULT; SystemExit where it does not hold."""
    less = shlex.join(options)
    with network() as hosts, storage(hosts.address) as s3:
        say("ray up cluster.yaml: a laptop, a head, two workers")
        with cluster_here(hosts, s3) as cluster:
            say(f"head up after {cluster.seconds['head']:.0f} s, all after {cluster.seconds['all']:.0f} s")
            for address, has in cluster.watch.looks[-1].nodes.items():
                say(f"  node {address}: CPU {has.get('CPU', 0):g}, GPU {has.get('GPU', 0):g}")
            # Where a study lives is all that is said: with nothing said, both would be the same study.
            quiet = run_study(cluster, _QUIET, f"{less} --out {cluster.address}/studies/{_QUIET}")
            say(f"undisturbed: {quiet['trials']} trials in {quiet['seconds']:.0f} s")
            if failures := errors_of(cluster):
                raise SystemExit(f"{len(failures)} trials were begun again, nothing was lost:\n{failures[0]}")
            disturbed = run_study(cluster, _STUDY, less, kill_after=int(quiet["trials"] * _KILL_AT))
            say(f"disturbed: {disturbed['trials']} trials in {disturbed['seconds']:.0f} s")
            rows = compare(s3, f"senca/studies/{_QUIET}", f"senca/studies/{_STUDY}")
            loss = loss_of(cluster, disturbed) | {"trials_begun_again": len(errors_of(cluster))}
            say(f"equal: {rows} rows in every column but {', '.join(MEASURED)}; and every region")
            say(f"{loss['trial']} went with {loss['host']} and had ended {loss['trial_again']} s later")
            say(f"figures of the loss: {loss}")
    if not options:
        write_result(cluster, quiet, disturbed, loss, rows)


def run_study(cluster: Cluster, study: str, options: str, kill_after: int | None = None) -> dict[str, Any]:
    """Run the experiment on the head; take a worker away once so many trials have ended."""
    victim = cluster.workers[0]
    began = time.monotonic()
    found: dict[str, Any] = {"study": study}
    process = cluster.begin(f"cd senca && RAY_ADDRESS=auto python experiments/sweep_neighbors.py {options}")
    assert process.stdout is not None
    said: list[str] = []
    listener = threading.Thread(target=said.extend, args=(process.stdout,), daemon=True)
    listener.start()
    while process.poll() is None:
        if time.monotonic() - began > _PATIENCE:
            raise SystemExit(f"no end after {_PATIENCE:.0f} s:\n{''.join(said)[-3000:]}")
        look = cluster.watch.looks[-1]
        if "held" not in found and look.at > began and look.groups:
            found["held"] = tell_groups(look)
        on_victim = [held for held, node in look.groups if node == victim.address]
        ended = ended_of(cluster, study)
        if kill_after is not None and "killed" not in found and len(ended) >= kill_after and on_victim:
            found |= {"killed": time.monotonic(), "ended_before": len(ended)}
            victim.kill()
            say(f"{victim.name} taken away after {len(ended)} trials; it held {on_victim[0]}")
            victim.start()
            say(f"{victim.name} is there again, with its disk and without a process")
        time.sleep(0.1)
    listener.join(10)
    if process.returncode or (kill_after is not None and "killed" not in found):
        raise SystemExit(f"the experiment ended with {process.returncode}:\n{''.join(said)[-6000:]}")
    time.sleep(1)  # for the watch's last look
    return found | {"seconds": time.monotonic() - began, "trials": len(ended_of(cluster, study))}


def tell_groups(look: Look) -> dict[str, float]:
    """Print the placement group of every trial that runs; returns what the first holds."""
    for held, node in look.groups:
        gpu = f"GPU {held.get('GPU', 0):g}"
        say(f"  a trial's placement group: CPU {held.get('CPU', 0):g}, {gpu}, on {node}")
    return look.groups[0][0]


def ended_of(cluster: Cluster, study: str) -> dict[str, float]:
    """When the rows of each trial were in the study's journal."""
    folders = [name for name in cluster.watch.ended if name.startswith(study)]
    return cluster.watch.ended[folders[0]] if folders else {}


def errors_of(cluster: Cluster) -> list[str]:
    """What Tune noted of each trial that ended by an error: such a trial is begun again."""
    mark = "=== "
    found = "find /tmp/ray/session_latest/artifacts -name error.txt"
    told = cluster.head.run(f"{found} -exec echo '{mark}' \\; -exec tail -n 12 {{}} \\;", check=False).stdout
    return told.split(mark)[1:]


def loss_of(cluster: Cluster, disturbed: dict[str, Any]) -> dict[str, Any]:
    """What the loss cost: which trial was lost, and seconds until it was noticed and made good."""
    killed, address = disturbed["killed"], cluster.workers[0].address
    looks = [look for look in cluster.watch.looks if look.at > killed]

    def after(moments: list[float]) -> float | None:
        return round(moments[0] - killed, 1) if moments else None

    gone = [look.at for look in looks if address not in look.nodes]
    back = [look.at for look in looks if gone and look.at > gone[0] and address in look.nodes]
    busy = [look.at for look in looks if address in {node for _, node in look.groups}]
    used = [at for at in busy if back and at >= back[0]]
    # Trials begin in one order, so of the three that were next it is the one that ended last.
    order = list(ended_of(cluster, _QUIET))
    own = ended_of(cluster, disturbed["study"])
    following = [trial for trial in order if own[trial] > killed][:3]
    lost = max(following, key=own.__getitem__)
    return {
        "host": cluster.workers[0].name,
        "ended_before": disturbed["ended_before"],
        "noticed": after(gone),
        "trial": lost,
        "trial_again": round(own[lost] - killed, 1),
        "host_joined_again": after(back),
        "host_ran_a_trial_again": after(used),
    }


def compare(s3: Storage, one: str, other: str) -> int:
    """Number of result rows of both studies; SystemExit unless their tables are equal and no row failed."""

    def read(folder: str, name: str) -> pd.DataFrame:
        return pd.read_parquet(io.BytesIO(s3.read(f"{folder}/{name}")))

    first, second = (read(folder, keys.RESULTS_FILE) for folder in (one, other))
    if (failed := int((second[keys.STATUS] == keys.FAILED).sum())) or not len(second):
        raise SystemExit(f"{failed} of {len(second)} rows failed: {set(second[keys.REASON].dropna())}")
    try:
        pd.testing.assert_frame_equal(*(t.drop(columns=MEASURED) for t in (first, second)), check_exact=True)
        pd.testing.assert_frame_equal(*(read(folder, keys.REGIONS_FILE) for folder in (one, other)))
    except AssertionError as error:
        raise SystemExit(f"the tables differ: {error}") from None
    return len(second)


def write_result(
    cluster: Cluster, quiet: dict[str, Any], disturbed: dict[str, Any], loss: dict[str, Any], rows: int
) -> None:
    """Write RESULT."""
    RESULT.parent.mkdir(exist_ok=True)
    content = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": versions(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[2], 1),
        "hosts": {"head": "CPU 0", **{worker.name: "CPU 1" for worker in cluster.workers}},
        "seconds_up": {name: round(value) for name, value in cluster.seconds.items()},
        "trials": disturbed["trials"],
        "rows": rows,
        "trial_holds": disturbed["held"],
        "seconds_undisturbed": round(quiet["seconds"]),
        "seconds_disturbed": round(disturbed["seconds"]),
        "seconds_after_loss": loss,
        "equal": True,
    }
    write_json(RESULT, content)
    say(f"written: {RESULT.relative_to(ROOT)}")


if __name__ == "__main__":
    main(sys.argv[1:])
