"""Notices that this process's own Ray node is gone, which Ray itself tells late or never.

Without its node a driver waits for what cannot come: Ray hears of a node's death after about 20 seconds, and
then waits for another one.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import psutil  # type: ignore[import-untyped]

from senca_ray.errors import SencaError

_log = logging.getLogger(__name__)

_LOOK_EVERY = 0.5
"""Seconds between two looks at the processes of a node of our own."""
_ASK_EVERY = 5.0
"""Seconds between two questions to the cluster, for a node that somebody else has started."""
_AGAIN = 10.0
"""Seconds after which the block is interrupted once more: something in it may have swallowed the first."""

_PROCESSES = ("raylet", "gcs_server")
"""Names of the processes that a node of our own cannot be without."""


class NodeLost(SencaError):
    """The Ray node on this machine is gone, and with it all that ran there."""


@contextmanager
def watched() -> Iterator[None]:
    """Raise NodeLost out of the block once the Ray node that this process is connected to is gone.

    The block is interrupted as Ctrl-C would; outside the main thread, where that cannot be, nothing watches.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    watch = _Watch()
    before = signal.signal(signal.SIGINT, watch.interrupted)
    watch.start()
    try:
        yield
    except BaseException:
        if watch.lost:
            raise NodeLost(_LOST) from None
        raise
    finally:
        watch.over.set()
        signal.signal(signal.SIGINT, before)


_LOST = "the Ray node on this machine was lost (killed, or out of memory)"


class _Watch(threading.Thread):
    def __init__(self) -> None:
        import ray

        super().__init__(name="node watch", daemon=True)
        self.lost = False
        self.over = threading.Event()
        # Empty for a cluster that was there before us.
        self._processes = [p for p in psutil.Process().children() if p.name() in _PROCESSES]
        self._node = ray.get_runtime_context().get_node_id()
        self._asked = time.monotonic()
        self._main = threading.get_ident()
        self._before = signal.getsignal(signal.SIGINT)

    def interrupted(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGINT: as it was handled before, unless it comes from here."""
        if self.lost:
            raise KeyboardInterrupt
        if callable(self._before):
            self._before(number, frame)

    def run(self) -> None:
        """Look until the block is over, or the node is gone."""
        while not any(map(_gone, self._processes)) and not self._told_dead():
            if self.over.wait(_LOOK_EVERY):
                return
        self.lost = True
        # At once: on the way out Ray may end this process before the exception is told.
        _log.error(_LOST)
        while not self.over.is_set():
            # To that very thread, so that what it waits for in the system is interrupted, too.
            __import__("_thread").interrupt_main()
            self.over.wait(_AGAIN)

    def _told_dead(self) -> bool:
        """Whether the cluster says that our node is dead; False when it does not answer."""
        import ray

        if time.monotonic() - self._asked < _ASK_EVERY:
            return False
        # Whatever keeps it from answering, the main thread meets it too.
        with contextlib.suppress(Exception):
            nodes = {node["NodeID"]: node["Alive"] for node in ray.nodes()}
            self._asked = time.monotonic()
            return not nodes.get(self._node, True)
        return False


def _gone(process: psutil.Process) -> bool:
    try:
        # A child that was killed stays as a zombie until its parent takes notice.
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
