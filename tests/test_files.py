from pathlib import Path

import pytest

from senca_ray.errors import SencaError
from senca_ray.files import write_text, write_whole


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_text(path, "before")

    def full(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(SencaError, match=r"page\.html: cannot be written .*No space left.*free space"):
        write_whole(path, full)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
