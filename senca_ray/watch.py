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
_SILENT = 30.0
"""Seconds without an answer after which the cluster is lost; after 60 Ray ends this process, its own way."""
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


_LOST = "the Ray node on this machine was lost (killed, out of memory, or cut off from its cluster)"


class _Watch(threading.Thread):
    def __init__(self) -> None:
        import ray

        super().__init__(name="node watch", daemon=True)
        self.lost = False
        self.over = threading.Event()
        # Empty for a cluster that was there before us.
        self._processes = [p for p in psutil.Process().children() if p.name() in _PROCESSES]
        self._node = ray.get_runtime_context().get_node_id()
        self._alive, self._answered = True, time.monotonic()
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
        if not self._processes:
            # By itself, because a question to a cluster that is gone does not return.
            threading.Thread(target=self._ask, name="node asker", daemon=True).start()
        while self._alive and not any(map(_gone, self._processes)):
            if self.over.wait(_LOOK_EVERY):
                return
            # A node of our own is seen by its processes, however long it is too busy to answer.
            if not self._processes:
                self._alive &= time.monotonic() - self._answered < _SILENT
        self.lost = True
        # At once: on the way out Ray may end this process before the exception is told.
        _log.error(_LOST)
        while not self.over.is_set():
            # To that very thread, so that what it waits for in the system is interrupted, too.
            signal.pthread_kill(self._main, signal.SIGINT)
            self.over.wait(_AGAIN)

    def _ask(self) -> None:
        import ray

        while not self.over.wait(_ASK_EVERY):
            # An error is no answer.
            with contextlib.suppress(Exception):
                nodes = {node["NodeID"]: node["Alive"] for node in ray.nodes()}
                self._alive &= nodes.get(self._node, True)
                self._answered = time.monotonic()


def _gone(process: psutil.Process) -> bool:
    try:
        # A child that was killed stays as a zombie until its parent takes notice.
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
