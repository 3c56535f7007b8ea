from __future__ import annotations

import hashlib
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fetch_stub import Home, Served, running
from hypothesis import given, settings
from hypothesis import strategies as st

from senca_ray.errors import SencaError
from senca_ray.fetch import download as module
from senca_ray.fetch.checksums import MD5, SHA256, Checksum
from senca_ray.fetch.client import Client, DownloadError
from senca_ray.fetch.download import Remote, Unfinished, download, part_of

ADDRESS = "https://zenodo.org/records/1/files/a.bin?download=1"
CONTENT = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(280_000)


@pytest.fixture
def home() -> Iterator[Home]:
    with running() as home:
        yield home


@pytest.fixture
def client(home: Home) -> Iterator[Client]:
    with Client(home.url, pause=0) as client:
        yield client


def md5(content: bytes) -> Checksum:
    return Checksum(MD5, hashlib.md5(content).hexdigest())


def get(
    client: Client, path: Path, remote: Remote | None = None, limit: int = 10**6, validator: str | None = None
) -> Checksum:
    return download(
        client, remote or Remote(ADDRESS), path, limit, Unfinished(validator), lambda done, size: None
    )


def ranges(home: Home) -> list[str | None]:
    return [wanted for _, wanted in home.asked]


def test_a_file_comes_whole_and_is_checked(home: Home, client: Client, tmp_path: Path) -> None:
    home.serve(ADDRESS, CONTENT)
    seen: list[tuple[int, int | None]] = []
    remote = Remote(ADDRESS, len(CONTENT), md5(CONTENT))
    found = download(
        client, remote, tmp_path / "a", 10**6, Unfinished(), lambda done, size: seen.append((done, size))
    )
    assert (tmp_path / "a").read_bytes() == CONTENT and found == md5(CONTENT)
    assert seen[0] == (0, len(CONTENT)) and seen[-1] == (len(CONTENT), len(CONTENT))
    assert not part_of(tmp_path / "a").exists()


def test_without_a_published_checksum_its_own_is_returned(home: Home, client: Client, tmp_path: Path) -> None:
    home.serve(ADDRESS, CONTENT)
    assert get(client, tmp_path / "a") == Checksum(SHA256, hashlib.sha256(CONTENT).hexdigest())


def test_a_connection_that_breaks_is_continued_where_it_broke(
    home: Home, client: Client, tmp_path: Path
) -> None:
    home.serve(ADDRESS, CONTENT, breaks=[100_000, 50_000])
    get(client, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert ranges(home) == [None, "bytes=100000-", "bytes=150000-"]


def test_the_next_call_continues_a_part_that_is_of_the_same_file(
    home: Home, client: Client, tmp_path: Path
) -> None:
    home.serve(ADDRESS, CONTENT)
    part_of(tmp_path / "a").write_bytes(CONTENT[:1000])
    get(client, tmp_path / "a", validator='"first"')
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert ranges(home) == ["bytes=1000-"]


def test_a_file_that_changed_meanwhile_starts_anew(home: Home, client: Client, tmp_path: Path) -> None:
    home.serve(ADDRESS, OTHER, tag='"second"')
    part_of(tmp_path / "a").write_bytes(CONTENT[:1000])
    get(client, tmp_path / "a", validator='"first"')
    assert (tmp_path / "a").read_bytes() == OTHER


def test_a_file_that_changes_in_the_middle_of_a_call_starts_anew(
    home: Home, client: Client, tmp_path: Path
) -> None:
    def change(served: Served) -> None:
        if len(home.asked) == 2:
            served.content, served.tag = OTHER, '"second"'

    home.serve(ADDRESS, CONTENT, breaks=[100_000], before=change)
    get(client, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == OTHER


def test_a_server_without_ranges_starts_anew(home: Home, client: Client, tmp_path: Path) -> None:
    home.serve(ADDRESS, CONTENT, ranges=False, breaks=[100_000])
    get(client, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_part_of_unknown_origin_is_not_trusted(home: Home, client: Client, tmp_path: Path) -> None:
    """Nothing would tell that the bytes of two files were mixed."""
    home.serve(ADDRESS, CONTENT, tag=None)
    part_of(tmp_path / "a").write_bytes(OTHER[:1000])
    get(client, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT and ranges(home) == [None]


def test_a_wrong_part_is_found_by_the_checksum_and_fetched_again(
    home: Home, client: Client, tmp_path: Path
) -> None:
    home.serve(ADDRESS, CONTENT, tag=None)
    part_of(tmp_path / "a").write_bytes(OTHER[:1000])
    get(client, tmp_path / "a", Remote(ADDRESS, len(CONTENT), md5(CONTENT)))
    assert (tmp_path / "a").read_bytes() == CONTENT and ranges(home) == ["bytes=1000-", None]


def test_a_part_that_is_whole_needs_no_request(home: Home, client: Client, tmp_path: Path) -> None:
    part_of(tmp_path / "a").write_bytes(CONTENT)
    get(client, tmp_path / "a", Remote(ADDRESS, len(CONTENT), md5(CONTENT)))
    assert (tmp_path / "a").read_bytes() == CONTENT and not home.asked


def test_a_part_longer_than_the_file_starts_anew(home: Home, client: Client, tmp_path: Path) -> None:
    home.serve(ADDRESS, CONTENT)
    part_of(tmp_path / "a").write_bytes(CONTENT + b"more")
    get(client, tmp_path / "a", validator='"first"')
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(home: Home, client: Client, tmp_path: Path) -> None:
    home.serve(ADDRESS, CONTENT)
    with pytest.raises(DownloadError, match=f"checksum md5:.* found; expected {md5(OTHER)}"):
        get(client, tmp_path / "a", Remote(ADDRESS, len(CONTENT), md5(OTHER)))
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_busy_is_asked_again(home: Home, client: Client, tmp_path: Path) -> None:
    home.serve(ADDRESS, CONTENT, statuses=[503, 429])
    get(client, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT and len(home.asked) == 3


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "404, not there"),
        (403, "answers 403; expected the file"),
        (503, "503 again and again; try later"),
        (429, "too many requests from here; wait an hour"),
    ],
)
def test_a_refusal_is_told_in_words(
    home: Home, client: Client, tmp_path: Path, status: int, words: str
) -> None:
    home.serve(ADDRESS, CONTENT, statuses=[status] * 20)
    with pytest.raises(DownloadError, match=words):
        get(client, tmp_path / "a")


def test_a_connection_that_always_breaks_ends_and_keeps_the_part(
    home: Home, client: Client, tmp_path: Path
) -> None:
    home.serve(ADDRESS, CONTENT, breaks=[1000] * 50)
    with pytest.raises(DownloadError, match="breaks again and again"):
        get(client, tmp_path / "a")
    part = part_of(tmp_path / "a").read_bytes()
    assert part and CONTENT.startswith(part) and not (tmp_path / "a").exists()


def test_another_size_than_listed_is_refused(home: Home, client: Client, tmp_path: Path) -> None:
    home.serve(ADDRESS, OTHER)
    with pytest.raises(DownloadError, match="280000 bytes; expected 300000"):
        get(client, tmp_path / "a", Remote(ADDRESS, len(CONTENT), md5(CONTENT)))


@pytest.mark.parametrize("length", [True, False])
def test_more_than_the_limit_is_not_downloaded(
    home: Home, client: Client, tmp_path: Path, length: bool
) -> None:
    home.serve(ADDRESS, CONTENT, length=length)
    with pytest.raises(DownloadError, match="expected at most 200000"):
        get(client, tmp_path / "a", limit=200_000)
    part = part_of(tmp_path / "a")
    assert not part.exists() or part.stat().st_size <= 200_000


def test_a_length_that_the_server_does_not_tell_is_no_obstacle(
    home: Home, client: Client, tmp_path: Path
) -> None:
    home.serve(ADDRESS, CONTENT, length=False)
    get(client, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_bytes_are_kept_as_they_are_whatever_the_server_calls_them(
    home: Home, client: Client, tmp_path: Path
) -> None:
    """NCBI's servers announce .gz files as encoded on the way."""
    home.serve(ADDRESS, CONTENT, zips=True, headers={"Content-Encoding": "gzip"})
    get(client, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_redirect_away_from_https_is_refused(home: Home, client: Client, tmp_path: Path) -> None:
    home.serve(ADDRESS, b"", statuses=[302], headers={"Location": "http://localhost:9/a"})
    with pytest.raises(DownloadError, match="leads to an address without https"):
        get(client, tmp_path / "a")


def test_a_redirect_to_another_place_is_followed(home: Home, client: Client, tmp_path: Path) -> None:
    home.serve(ADDRESS, b"", statuses=[302], headers={"Location": "/files/1"})
    home.files["/files/1"] = Served(CONTENT)
    get(client, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize("mirror", ["http://example.org", "http://127.0.0.1.example.org:80", "ftp://x", "x"])
def test_a_mirror_without_protection_is_refused(mirror: str) -> None:
    with pytest.raises(SencaError, match=r"expected https://..., or http://127.0.0.1:PORT"):
        Client(mirror)


def test_a_full_disk_is_told_before_the_download(
    home: Home, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage._replace(free=module._SPARE + 1000))
    home.serve(ADDRESS, CONTENT)
    with pytest.raises(SencaError, match=r"GB free; expected .* GB; free space there"):
        get(client, tmp_path / "a")
    assert not part_of(tmp_path / "a").exists()


@settings(max_examples=10, deadline=None)
@given(
    breaks=st.lists(st.integers(0, 300_000), max_size=4),
    begun=st.integers(0, 300_000),
    ranges=st.booleans(),
    tag=st.sampled_from(['"first"', None, 'W/"weak"']),
)
def test_however_it_breaks_the_bytes_are_right(
    breaks: list[int], begun: int, ranges: bool, tag: str | None
) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        running() as home,
        Client(home.url, pause=0) as client,
    ):
        home.serve(ADDRESS, CONTENT, breaks=list(breaks), ranges=ranges, tag=tag)
        path = Path(folder) / "a"
        part_of(path).write_bytes(CONTENT[:begun])
        get(client, path, Remote(ADDRESS, None, md5(CONTENT)), validator=tag)
        assert path.read_bytes() == CONTENT
