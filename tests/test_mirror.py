"""A study at an address, against a storage on this machine."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from senca_ray import keys, lease, mirror
from senca_ray.analysis.description import read_description
from senca_ray.cli_pull import _address
from senca_ray.data.location import StorageAway, list_files, patiently, read_bytes, write_bytes
from senca_ray.errors import SencaError
from senca_ray.study.checkpoint import TrialCheckpoint, remove_checkpoints


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats that a test need not wait for."""
    monkeypatch.setattr(lease, "BEAT", 0.05)
    monkeypatch.setattr(lease, "_SILENT", 0.3)
    monkeypatch.setattr(lease, "_SETTLE", 0.0)


@pytest.fixture
def address(bucket: str) -> str:
    return f"s3://{bucket}/studies/tiny"


def silent(text: str) -> None:
    """What is told goes nowhere."""


def begin(folder: Path, lines: int = 2) -> None:
    (folder / "embeddings").mkdir(parents=True, exist_ok=True)
    (folder / keys.STUDY_FILE).write_text('{"name": "tiny"}')
    (folder / "embeddings" / "A1.npy").write_bytes(b"values")
    append(folder, lines)


def append(folder: Path, lines: int = 1) -> None:
    with (folder / keys.JOURNAL_FILE).open("a") as file:
        start = len((folder / keys.JOURNAL_FILE).read_text().splitlines())
        file.writelines(json.dumps({"row": start + n}) + "\n" for n in range(lines))


def test_everything_of_a_study_is_at_its_address_when_its_run_has_ended(address: str, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    with mirror.mirrored(address, folder, silent):
        begin(folder)
        (folder / ".lock").touch()
        (folder / "tune").mkdir()
        (folder / "tune" / "state.json").touch()
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "local.pt").touch()
    assert list(list_files(address)) == ["embeddings/A1.npy", "journal/000000000000.jsonl", "study.json"]


def test_rows_reach_the_address_while_the_study_runs(address: str, tmp_path: Path) -> None:
    with mirror.mirrored(address, tmp_path, silent):
        begin(tmp_path)
        wait_for(lambda: "journal/000000000000.jsonl" in list_files(address))
        append(tmp_path)
        wait_for(lambda: len(list_files(f"{address}/journal")) == 2)
        assert lease.read_lease(address) is not None
    assert lease.read_lease(address) is None


def wait_for(happened: Callable[[], bool]) -> None:
    for _ in range(600):
        if happened():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it did not happen within 30 seconds")


def test_another_machine_goes_on_with_the_study(address: str, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    with mirror.mirrored(address, one, silent):
        begin(one)
    with mirror.mirrored(address, other, silent):
        assert (other / keys.JOURNAL_FILE).read_text() == (one / keys.JOURNAL_FILE).read_text()
        assert (other / "embeddings" / "A1.npy").read_bytes() == b"values"
        append(other)
        (other / "embeddings" / "A1.npy").unlink()
    third = tmp_path / "third"
    third.mkdir()
    mirror.bring(address, third)
    assert len((third / keys.JOURNAL_FILE).read_text().splitlines()) == 3
    assert not (third / "embeddings" / "A1.npy").exists()


def test_rows_that_had_not_reached_the_address_are_kept_by_the_machine_that_has_them(
    address: str, tmp_path: Path
) -> None:
    with mirror.mirrored(address, tmp_path, silent):
        begin(tmp_path)
    append(tmp_path)  # the machine died before the next beat
    with mirror.mirrored(address, tmp_path, silent):
        pass
    copy = tmp_path / "copy"
    copy.mkdir()
    mirror.bring(address, copy)
    assert (copy / keys.JOURNAL_FILE).read_text() == (tmp_path / keys.JOURNAL_FILE).read_text()


def test_a_folder_that_another_machine_went_past_is_replaced(address: str, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        with mirror.mirrored(address, folder, silent):
            if folder == one:
                begin(folder)
            append(folder)
    (one / "old.txt").touch()
    with mirror.mirrored(address, one, silent):
        assert (one / keys.JOURNAL_FILE).read_text() == (other / keys.JOURNAL_FILE).read_text()
        assert not (one / "old.txt").exists()


def test_half_a_line_stays_behind(address: str, tmp_path: Path) -> None:
    with mirror.mirrored(address, tmp_path, silent):
        begin(tmp_path)
        with (tmp_path / keys.JOURNAL_FILE).open("a") as file:
            file.write('{"row": ')
    assert read_bytes(f"{address}/journal/000000000000.jsonl") == b'{"row": 0}\n{"row": 1}\n'


def test_the_optuna_file_arrives_whole_while_somebody_writes_it(address: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / keys.OPTUNA_FILE) as writing:
        writing.execute("create table t (x int)")
        writing.execute("insert into t values (7)")
        writing.commit()
        writing.execute("insert into t values (8)")  # not committed
        with mirror.mirrored(address, tmp_path, silent):
            pass
        writing.rollback()
    (tmp_path / "copy.db").write_bytes(read_bytes(f"{address}/{keys.OPTUNA_FILE}") or b"")
    assert sqlite3.connect(tmp_path / "copy.db").execute("select x from t").fetchall() == [(7,)]


def test_two_do_not_run_a_study_at_once(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_SILENT", 5.0)
    heard: list[str] = []
    told = pytest.raises(SencaError, match=r"is being run by process \d+ on ")
    with mirror.mirrored(address, tmp_path, silent), told:
        lease.take_lease(address, heard.append)
    assert "looking whether process" in heard[0]


def test_a_run_that_fell_silent_is_taken_over_and_notices(address: str, tmp_path: Path) -> None:
    mine = lease.take_lease(address, silent)
    write_lease(address, host="elsewhere", pid=1)
    theirs = lease.read_lease(address)
    with pytest.raises(lease.TakenOver, match="process 1 on elsewhere runs the study now"):
        lease.renew(address, mine)
    taken = lease.take_lease(address, silent)  # it does not beat
    assert taken != theirs and lease.renew(address, taken).beat == 1


def test_a_dead_process_of_this_machine_is_not_waited_for(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_SILENT", 1e9)
    write_lease(address, host=lease.socket.gethostname(), pid=2**22 + 1)
    lease.take_lease(address, silent)


def test_a_run_that_was_taken_over_writes_nothing_any_more(address: str, tmp_path: Path) -> None:
    with mirror.mirrored(address, tmp_path, silent) as check:
        begin(tmp_path)
        wait_for(lambda: "study.json" in list_files(address))
        write_lease(address, host="elsewhere", pid=1)
        wait_for(lambda: refuses(check))
        append(tmp_path)
    assert len(list_files(f"{address}/journal")) == 1
    assert lease.read_lease(address) is not None


def refuses(check: Callable[[], None]) -> bool:
    try:
        check()
    except lease.TakenOver:
        return True
    return False


def write_lease(address: str, host: str, pid: int) -> None:
    content = {"run": f"run of {host}", "host": host, "pid": pid, "beat": 0}
    write_bytes(f"{address}/{keys.LEASE_FILE}", json.dumps(content).encode())


def test_a_lease_that_is_none_is_told(address: str) -> None:
    write_bytes(f"{address}/{keys.LEASE_FILE}", b'{"who": 1}')
    with pytest.raises(SencaError, match="not as it was written"):
        lease.read_lease(address)


def test_a_journal_with_a_gap_is_told(address: str, tmp_path: Path) -> None:
    write_bytes(f"{address}/journal/000000000007.jsonl", b"{}\n")
    with pytest.raises(SencaError, match="lacks what begins at byte 0"):
        mirror.bring(address, tmp_path)


def test_names_that_lead_elsewhere_are_refused(address: str, tmp_path: Path, s3: object) -> None:
    bucket, _, key = address.removeprefix("s3://").partition("/")
    s3.put_object(Bucket=bucket, Key=f"{key}/study.json", Body=b"{}")  # type: ignore[attr-defined]
    s3.put_object(Bucket=bucket, Key=f"{key}/a/../../../evil", Body=b"x")  # type: ignore[attr-defined]
    with pytest.raises(SencaError, match="leads elsewhere"):
        mirror.pull(address, tmp_path / "copy")
    assert not (tmp_path / "evil").exists()


def test_pull_brings_what_is_new_and_no_more(address: str, tmp_path: Path) -> None:
    here, home = tmp_path / "here", tmp_path / "home"
    here.mkdir()
    with mirror.mirrored(address, here, silent):
        begin(here)
    assert mirror.pull(address, home) == 3
    assert (home / keys.JOURNAL_FILE).read_text() == (here / keys.JOURNAL_FILE).read_text()
    assert mirror.pull(address, home) == 0
    with mirror.mirrored(address, here, silent):
        append(here)
    assert mirror.pull(address, home) >= 1
    assert (home / keys.JOURNAL_FILE).read_text() == (here / keys.JOURNAL_FILE).read_text()
    assert not [p for p in home.iterdir() if p.name.startswith(".")]


def test_what_reads_a_folder_says_how_a_study_at_an_address_comes_home() -> None:
    with pytest.raises(SencaError, match="`senca pull s3://lab/studies/a` brings it here"):
        read_description(Path("s3://lab/studies/a"))


def test_pull_finds_a_study_by_its_name(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = address.removesuffix("/studies/tiny")
    (tmp_path / "cluster.yaml").write_text(f"""
provider: {{type: aws}}
head_node_type: head
available_node_types: {{head: {{}}}}
setup_commands: ["export SENCA_STORAGE={base}"]
""")
    assert _address("tiny", None) == address
    (tmp_path / "cluster.yaml").unlink()
    with pytest.raises(SencaError, match="no storage to look for it"):
        _address("tiny", None)
    monkeypatch.setenv("SENCA_STORAGE", f"{base}/")
    assert _address("tiny", None) == address


def test_pull_overwrites_no_other_study(address: str, tmp_path: Path) -> None:
    here, other = tmp_path / "here", tmp_path / "other"
    here.mkdir()
    with mirror.mirrored(address, here, silent):
        begin(here)
    begin(other)
    (other / keys.STUDY_FILE).write_text('{"name": "mine"}')
    for folder in (other, tmp_path):
        with pytest.raises(SencaError, match="something else"):
            mirror.pull(address, folder)
    with pytest.raises(SencaError, match="no study there"):
        mirror.pull(f"{address}-none", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@settings(max_examples=15)
@given(lengths=st.lists(st.integers(0, 4), max_size=5))
def test_pieces_make_the_journal(lengths: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("journal")
    put: dict[str, bytes] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mirror, "connect", lambda address: (None, ""))
        patch.setattr(mirror, "write_bytes", put.__setitem__)
        made = mirror._Mirror("s3://b/s", folder, lease.Lease("", "", 0, 0), 0, set())
        for length in lengths:
            append(folder, length)
            made.put()
    assert b"".join(put[name] for name in sorted(put)).decode() == "".join(
        f'{{"row": {n}}}\n' for n in range(sum(lengths))
    )


@contextmanager
def away(status: int) -> Iterator[tuple[str, list[int]]]:
    """A storage that answers everything with `status`; its address and how often it was asked."""
    asked: list[int] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(status)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_PUT = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("status", [500, 503])
def test_a_storage_out_of_order_is_told_apart_from_one_that_refuses(
    status: int, credentials: Callable[[str], None]
) -> None:
    with away(status) as (endpoint, _):
        credentials(endpoint)
        with pytest.raises(StorageAway):
            read_bytes("s3://bucket/key")
    with away(403) as (endpoint, _):
        credentials(endpoint)
        with pytest.raises(SencaError, match="denied") as told:
            read_bytes("s3://bucket/key")
        assert not isinstance(told.value, StorageAway)


def test_a_storage_that_comes_back_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)
    left = [StorageAway("one"), StorageAway("two")]
    heard: list[StorageAway] = []

    def attempt() -> str:
        if left:
            raise left.pop(0)
        return "there"

    assert patiently(attempt, heard.append) == "there"
    assert [str(error) for error in heard] == ["one", "two"]


def test_other_errors_are_not_waited_for() -> None:
    def attempt() -> None:
        raise SencaError("denied")

    with pytest.raises(SencaError, match="denied"):
        patiently(attempt, lambda error: pytest.fail("waited"))


def test_a_checkpoint_at_an_address_is_found_by_another_worker(bucket: str) -> None:
    place = f"s3://{bucket}/studies/tiny/checkpoints"
    first = TrialCheckpoint(f"{place}/t.pt", interval=0)
    assert first.begin("trial") == []
    first.add([{"seed": 0}])
    again = TrialCheckpoint(f"{place}/t.pt", interval=0)
    assert again.begin("trial") == [{"seed": 0}]
    again.remove()
    assert not list_files(place)
    first.add([{"seed": 1}])
    remove_checkpoints(place)
    assert not list_files(place)
