"""Proof: the machine that runs a study is lost with its disk; another one goes on with it from the storage.

Two hosts of this machine (see hosts.py) and a loopback S3. `experiments/sweep_neighbors.py` runs on the
first, which is taken away in the middle; `senca resume s3://...` on the second finishes it. The table has to
be that of an undisturbed run, and no trial whose rows had reached the storage may run again.

Linux and root; `apt-get install -y iproute2 openssh-server rsync`.
"""

from __future__ import annotations

import faults
from hosts import network, storage
from outcome import write_result
from small_study import SmallStudy, say


def main() -> None:
    """Print what happens, write the result; SystemExit where it does not hold."""
    with network() as hosts, storage(hosts.address) as s3:
        environment = SmallStudy("", s3, hosts).environment
        first, second = (hosts.start(name, environment) for name in ("first", "second"))
        quiet = SmallStudy("undisturbed", s3, hosts)
        quiet.begin(first).end()
        say(f"undisturbed: {len(quiet.table())} rows")
        found = faults.machine_lost(SmallStudy("moved", s3, hosts), first, second, quiet.table())
        say(f"equal: {found.rows} rows; the next trial had ended {found.seconds:.0f} s after `senca resume`")
        write_result("head_killed", found.as_json())


if __name__ == "__main__":
    main()
