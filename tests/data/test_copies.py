from __future__ import annotations

import functools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from senca_ray.data import copies
from senca_ray.data.copies import discard, held, remove
from senca_ray.errors import SencaError


def fill(size: int, folder: Path) -> None:
    (folder / "data").write_bytes(b"0" * size)


def copy_of(name: str, megabytes: int) -> AbstractContextManager[Path]:
    size = megabytes * 1000
    return held(name, lambda: size, functools.partial(fill, size))


@pytest.fixture(autouse=True)
def small(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for 100 kB, in which tests reckon as if they were 100 MB; no long waits."""
    monkeypatch.setenv(copies.BOUND, "0.0001")
    monkeypatch.setattr(copies, "_PATIENCE", 0.0)
    monkeypatch.setattr(copies, "_PAUSE", 0.001)


def there(cache: Path) -> set[str]:
    return {path.name for path in (cache / copies.FOLDER).iterdir() if not path.name.startswith(".")}


def use(name: str, megabytes: int = 40) -> None:
    with copy_of(name, megabytes) as copy:
        assert (copy / "data").stat().st_size == megabytes * 1000


def test_the_least_recently_used_make_room(own_cache: Path) -> None:
    for name in ("a", "b", "a", "c"):
        use(name)
    assert there(own_cache) == {"a", "c"}
    use("d", 20)
    assert there(own_cache) == {"a", "c", "d"}
    use("e", 100)
    assert there(own_cache) == {"e"}
    assert {p.name for p in (own_cache / copies.FOLDER).glob(".*")} == {".lock", ".e.lock"}


def test_what_is_read_stays(own_cache: Path) -> None:
    with copy_of("a", 40) as a:
        use("b")
        use("c")
        assert there(own_cache) == {"a", "c"} and (a / "data").exists()
        with pytest.raises(SencaError, match="is being read"):
            remove(a)
        with pytest.raises(SencaError, match=r"big: no room.*copies of 0\.00 GB are in use.*SENCA_CACHE_GB"):
            use("big", 70)
        assert there(own_cache) == {"a"}
    use("big", 70)
    assert there(own_cache) == {"big"}


def test_who_waits_for_room_gets_it_when_a_reader_ends(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "_PATIENCE", 60.0)
    with ThreadPoolExecutor(1) as pool:
        with copy_of("a", 60):
            waiting = pool.submit(use, "b", 60)
            assert there(own_cache) == {"a"}
        waiting.result()
    assert there(own_cache) == {"b"}


def test_what_can_never_fit_says_so(own_cache: Path) -> None:
    with pytest.raises(SencaError, match=r"big: .* set SENCA_CACHE_GB higher"):
        use("big", 101)
    assert there(own_cache) == set()


@pytest.mark.parametrize("text", ["much", "-1", "0", "nan", "inf"])
def test_a_bound_that_is_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(copies.BOUND, text)
    with pytest.raises(SencaError, match="expected gigabytes"):
        use("a")


def test_a_copy_that_breaks_off_is_none_and_can_be_made_again(own_cache: Path) -> None:
    def breaks(folder: Path) -> None:
        fill(10, folder)
        raise SencaError("the line is cut")

    with pytest.raises(SencaError, match="cut"), held("a", lambda: 10, breaks):
        raise AssertionError("not reached")
    assert there(own_cache) == set()
    use("a")


def test_what_a_killed_process_left_is_counted_and_cleared(own_cache: Path) -> None:
    partial = own_cache / copies.FOLDER / ".dead.partial"
    partial.mkdir(parents=True)
    (partial / "data").write_bytes(b"0" * 90_000)
    (own_cache / copies.FOLDER / ".dead.lock").write_text("90000")
    use("a", 40)
    assert not partial.exists() and there(own_cache) == {"a"}


def test_a_discarded_copy_is_made_again() -> None:
    with copy_of("a", 10) as a:
        (a / "data").write_bytes(b"")
    discard(a)
    discard(a)
    use("a", 10)


_PROCESS = """
import sys
from pathlib import Path
from senca_ray.data.copies import held
log = Path(sys.argv[1])
def fill(folder):
    with log.open("a") as file:
        file.write("filled\\n")
    (folder / "data").write_bytes(b"x" * 5000)
with held("shared", lambda: 5000, fill) as copy:
    assert (copy / "data").read_bytes() == b"x" * 5000
"""


def test_processes_that_want_the_same_copy_share_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", _PROCESS, str(log)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert log.read_text() == "filled\n"
