"""Who runs a study that lives at an address: a small file there that its run renews every few seconds.

No clock is compared: whoever wants the study looks whether the file still changes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped]

from senca_ray import keys
from senca_ray.data.location import delete, read_bytes, write_bytes
from senca_ray.errors import SencaError

BEAT = 5.0
"""Seconds between two renewals."""
_SILENT = 4 * BEAT
"""Seconds without a renewal after which a run is taken for dead."""
_SETTLE = 1.0
"""Seconds after which one of two who took a study at the same moment sees the other's lease."""


class TakenOver(SencaError):
    """Another run has the study now."""


@dataclass(frozen=True)
class Lease:
    """What the file says."""

    run: str
    """Tells this run from all others."""
    host: str
    pid: int
    beat: int
    """Goes up with every renewal."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def read_lease(address: str) -> Lease | None:
    """The lease of the study at an address, None where nobody runs it; raises SencaError."""
    content = read_bytes(f"{address}/{keys.LEASE_FILE}")
    if content is None:
        return None
    try:
        return Lease(**json.loads(content))
    except (ValueError, TypeError):
        raise SencaError(
            f"{address}/{keys.LEASE_FILE}: not as it was written; remove it if nobody runs the study"
        ) from None


def take_lease(address: str, told: Callable[[str], None]) -> Lease:
    """Become the one who runs the study; `told` says what is waited for.

    A run that does not renew its lease for 20 seconds is dead. Raises SencaError saying who else runs it.
    """
    found = read_lease(address)
    if found is not None and not _died_here(found):
        told(f"looking whether {found} still runs the study ({_SILENT:.0f} s)")
        deadline = time.monotonic() + _SILENT
        while time.monotonic() < deadline:
            time.sleep(BEAT / 5)
            now = read_lease(address)
            if now is None:
                break
            if now != found:
                raise SencaError(f"{address}: is being run by {now}; wait for it or stop it")
    mine = Lease(uuid.uuid4().hex, socket.gethostname(), os.getpid(), 0)
    _write(address, mine)
    time.sleep(_SETTLE)
    if (now := read_lease(address)) != mine:
        raise SencaError(f"{address}: {now or 'somebody'} took it at the same moment; wait for it or stop it")
    return mine


def renew(address: str, mine: Lease) -> Lease:
    """Say that this run lives; returns the lease as it is now. Raises TakenOver, or SencaError."""
    now = read_lease(address)
    if now is None or now.run != mine.run:
        raise TakenOver(f"{address}: {now or 'somebody'} runs the study now; this run ends")
    mine = dataclasses.replace(mine, beat=mine.beat + 1)
    _write(address, mine)
    return mine


def give_back(address: str) -> None:
    """Say that nobody runs the study any more."""
    delete(address, [keys.LEASE_FILE])


def _write(address: str, lease: Lease) -> None:
    content = json.dumps(dataclasses.asdict(lease)).encode()
    write_bytes(f"{address}/{keys.LEASE_FILE}", content)


def _died_here(lease: Lease) -> bool:
    return lease.host == socket.gethostname() and not psutil.pid_exists(lease.pid)
