from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from senca_ray import keys, lock
from senca_ray.errors import SencaError
from senca_ray.lock import held, holder, running

DRIVER = """
import subprocess, sys, time
from pathlib import Path
from senca_ray.lock import held

with held(Path(sys.argv[1])):
    # A child that keeps every file it can get from its parent.
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False)
    print(child.pid, flush=True)
    time.sleep(60)
"""


def test_a_study_is_run_by_one_at_a_time(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    with held(tmp_path):
        me = f"process {os.getpid()} on {socket.gethostname()}"
        assert holder(tmp_path) == me
        with pytest.raises(SencaError, match=f"is being run by {me}; wait for it or stop it"), held(tmp_path):
            raise AssertionError("two hold the lock")
        assert holder(tmp_path) == me
    assert holder(tmp_path) is None
    with held(tmp_path):
        assert holder(tmp_path) == me


def test_a_lock_ends_with_its_block_however_that_ends(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), held(tmp_path):
        raise KeyboardInterrupt
    assert holder(tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_a_killed_driver_leaves_its_study_free_while_its_children_live(tmp_path: Path) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert driver.stdout is not None
    child = psutil.Process(int(driver.stdout.readline()))
    try:
        assert holder(tmp_path) == f"process {driver.pid} on {socket.gethostname()}"
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        assert child.is_running()
        assert holder(tmp_path) is None
        with held(tmp_path):
            pass
    finally:
        driver.stdout.close()
        child.kill()


def test_who_only_looks_keeps_nobody_from_starting(tmp_path: Path) -> None:
    with (tmp_path / keys.LOCK_FILE).open("a+b") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.1, fcntl.flock, (looking, fcntl.LOCK_UN)).start()
        with held(tmp_path):
            assert holder(tmp_path)


def test_a_run_knows_how_much_was_there_before_it(tmp_path: Path) -> None:
    (tmp_path / keys.JOURNAL_FILE).write_text("12345")
    with held(tmp_path):
        run = running(tmp_path)
    assert run is not None and run.journal_bytes == 5


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"pid": 1}', "7"])
def test_a_lock_that_is_not_signed_yet_is_a_lock(tmp_path: Path, content: str) -> None:
    with held(tmp_path):
        (tmp_path / keys.LOCK_FILE).write_text(content)
        assert holder(tmp_path) == "a process that has just started"


def test_a_removed_lock_file_is_no_lock(tmp_path: Path) -> None:
    """A study that is removed and made anew under the same name is not kept by who had the old one."""
    with held(tmp_path):
        (tmp_path / keys.LOCK_FILE).unlink()
        with held(tmp_path):
            assert holder(tmp_path)
        assert holder(tmp_path) is None


def test_a_disk_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with pytest.raises(SencaError, match=r"cannot be locked .*another disk"), held(tmp_path):
        raise AssertionError("held without a lock")
    assert holder(tmp_path) is None


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SencaError, match=r"cannot be written .*choose a folder"), held(tmp_path / "gone"):
        raise AssertionError("held nothing")
    assert holder(tmp_path / "gone") is None
