from __future__ import annotations

import gzip
import io
import re
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from fetch_stub import tar_of
from hypothesis import given, settings
from hypothesis import strategies as st

from senca_ray.errors import SencaError
from senca_ray.fetch import archives
from senca_ray.fetch.unpack import unpack

GOOD = {"pack/a.txt": b"one", "pack/sub/b.txt": b"two"}


def choose(names: Iterable[str]) -> dict[str, str]:
    """Every text and image, wherever it is, under data/."""
    return {
        name: "data/" + re.sub(r"\.jpg\.(gz|txt)$", ".jpg", name)
        for name in names
        if name.endswith((".txt", ".jpg.gz"))
    }


def run(content: bytes, folder: Path, limit: int = 10**6, ours: frozenset[str] = frozenset()) -> set[str]:
    folder.mkdir(exist_ok=True)
    archive = folder.parent / "archive"
    archive.write_bytes(content)
    return set(unpack(archive, folder, choose, limit, ours, lambda done, total: None))


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def tar_with(change: Callable[[tarfile.TarFile], None]) -> bytes:
    """A tar with the good files and what `change` adds."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in GOOD.items():
            add(tar, name, content)
        change(tar)
    return made.getvalue()


def add(tar: tarfile.TarFile, name: str, content: bytes = b"", kind: bytes = b"", link: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.type = kind or tarfile.REGTYPE
    info.linkname = link
    tar.addfile(info, io.BytesIO(content))


def zip_of(files: dict[str, bytes], mode: int = 0) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            packed.writestr(info, content, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A tar header that promises `size` bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def encrypted(content: bytes) -> bytes:
    """A zip whose directory says that its entries are encrypted."""
    start = content.index(b"PK\x01\x02") + 8
    local = 6
    flagged = content[:start] + struct.pack("<H", 1) + content[start + 2 :]
    return flagged[:local] + struct.pack("<H", 1) + flagged[local + 2 :]


@pytest.mark.parametrize(
    "content",
    [tar_of(GOOD), tar_of(GOOD, "w"), zip_of(GOOD)],
    ids=["tar.gz", "tar", "zip"],
)
def test_what_is_chosen_comes_out_and_nothing_else(content: bytes, tmp_path: Path) -> None:
    assert run(content, tmp_path / "out") == {"data/pack/a.txt", "data/pack/sub/b.txt"}
    assert everything(tmp_path / "out") == {f"data/{name}": content for name, content in GOOD.items()}


MALICIOUS: dict[str, tuple[bytes, str]] = {
    "leads out": (tar_with(lambda t: add(t, "../evil.txt", b"x")), "leads out of the folder"),
    "leads out in the middle": (tar_with(lambda t: add(t, "a/../../evil.txt")), "leads out of the folder"),
    "leads out with backslashes": (tar_with(lambda t: add(t, "a\\..\\evil.txt")), "leads out of the folder"),
    "absolute": (tar_with(lambda t: add(t, "/tmp/evil.txt", b"x")), "has an absolute name"),
    "drive": (tar_with(lambda t: add(t, "C:evil.txt", b"x")), "has an absolute name"),
    "symbolic link": (
        tar_with(lambda t: add(t, "pack/l.txt", kind=tarfile.SYMTYPE, link="/etc/passwd")),
        "is a link",
    ),
    "hard link": (
        tar_with(lambda t: add(t, "pack/l.txt", kind=tarfile.LNKTYPE, link="../../etc/passwd")),
        "is a link",
    ),
    "device": (tar_with(lambda t: add(t, "pack/d.txt", kind=tarfile.CHRTYPE)), "link, folder or device"),
    "pipe": (tar_with(lambda t: add(t, "pack/d.txt", kind=tarfile.FIFOTYPE)), "link, folder or device"),
    "twice": (tar_with(lambda t: add(t, "pack/a.txt", b"other")), "is there twice"),
    "twice but for case": (tar_with(lambda t: add(t, "pack/A.txt", b"other")), "is there twice"),
    "sign that ends lines": (tar_with(lambda t: add(t, "pack/a\nb.txt", b"other")), "no file may have"),
    "bomb by declared size": (
        gzip.compress(header("pack/a.txt", 10**13) + bytes(10**6)),
        "declares more than 1000000 bytes",
    ),
    "bomb in a header": (
        gzip.compress(header("././@LongLink", 10**11, tarfile.GNUTYPE_LONGNAME) + bytes(10**6)),
        "damaged or no archive",
    ),
    "bomb of zip": (zip_of({"a.txt": bytes(2 * 10**6)}), "declares more than 1000000 bytes"),
    "bomb inside": (
        tar_of({"a.jpg.gz": gzip.compress(bytes(3 * 10**6))}),
        "unpacks to more than 1000000 bytes",
    ),
    "zip leads out": (zip_of({"../evil.txt": b"x"}), "leads out of the folder"),
    "zip link": (zip_of({"a.txt": b"/etc/passwd"}, stat.S_IFLNK | 0o777), "is a link"),
    "zip encrypted": (encrypted(zip_of({"a.txt": b"secret"})), "encrypted"),
    "cut short": (tar_of({"a.txt": bytes(range(256)) * 100})[:300], "damaged or no archive"),
    "cut short tar": (tar_of({"a.txt": bytes(5000)}, "w")[:3000], "damaged or no archive"),
    "zip cut short": (zip_of(GOOD)[:60], "damaged or no archive"),
    "a page instead": (b"<!DOCTYPE html><html>not found</html>", "damaged or no archive"),
    "empty": (b"", "damaged or no archive"),
    "another cohort": (tar_of({"readme.md": b"x"}), "none of the cohort's files in it, but readme.md"),
}


@pytest.mark.parametrize(("content", "words"), MALICIOUS.values(), ids=MALICIOUS)
def test_a_malicious_or_damaged_archive_changes_nothing(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.md").write_bytes(b"mine")
    with pytest.raises(SencaError, match=words):
        run(content, tmp_path / "out")
    assert everything(tmp_path / "out") == {"mine.md": b"mine"}
    assert {p.name for p in tmp_path.iterdir()} == {"out", "archive"}


def test_more_entries_than_any_cohort_has_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 50)
    with pytest.raises(SencaError, match="more than 50 entries"):
        run(tar_of({f"{i}.txt": b"" for i in range(51)}), tmp_path / "out")


def test_links_that_nobody_wants_do_no_harm(tmp_path: Path) -> None:
    """Editors leave such links in repositories."""
    content = tar_with(lambda t: add(t, "pack/.#a.py", kind=tarfile.SYMTYPE, link="someone@host"))
    assert len(run(content, tmp_path / "out")) == 2


def test_two_entries_that_would_become_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SencaError, match=r"two entries would become data/a.jpg"):
        run(tar_of({"a.jpg.gz": gzip.compress(b"1"), "a.jpg.txt": b"2"}), tmp_path / "out")


def test_what_is_gzipped_and_wanted_plain_is_unzipped(tmp_path: Path) -> None:
    run(tar_of({"a.jpg.gz": gzip.compress(b"picture")}), tmp_path / "out")
    assert everything(tmp_path / "out") == {"data/a.jpg": b"picture"}


def test_a_file_that_is_not_ours_is_never_replaced(tmp_path: Path) -> None:
    mine = tmp_path / "out" / "data" / "pack" / "sub" / "b.txt"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"edited")
    with pytest.raises(SencaError, match="is there already and differs"):
        run(tar_of(GOOD), tmp_path / "out")
    assert everything(tmp_path / "out") == {"data/pack/sub/b.txt": b"edited"}
    run(tar_of(GOOD), tmp_path / "out", ours=frozenset({"data/pack/sub/b.txt"}))
    assert mine.read_bytes() == b"two"


def test_a_full_disk_is_told_before_anything_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from senca_ray.fetch import download

    usage = download.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage._replace(free=download._SPARE))
    with pytest.raises(SencaError, match="GB free"):
        run(tar_of(GOOD), tmp_path / "out")


@settings(max_examples=25, deadline=None)
@given(data=st.data(), content=st.sampled_from([tar_of(GOOD), tar_of(GOOD, "w"), zip_of(GOOD)]))
def test_damage_anywhere_ends_in_words_and_never_halfway(
    data: st.DataObject, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = data.draw(st.integers(0, len(content) - 1))
    damaged = (
        content[:place] + bytes([content[place] ^ data.draw(st.integers(1, 255))]) + content[place + 1 :]
    )
    folder = tmp_path_factory.mktemp("damage") / "out"
    try:
        names = run(damaged, folder)
    except SencaError:
        assert everything(folder) == {}
    else:
        assert set(everything(folder)) == names
