"""Whether this machine has what the package needs: `python -m senca_ray.cloud.installed PYPROJECT EXTRA ...`.

Cluster files ask this before pip, which takes seconds and a network even where nothing is to be done.
"""

from __future__ import annotations

import importlib.metadata
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

# Every machine that has Ray has this.
from packaging.requirements import Requirement


def missing(pyproject: Path, extras: Sequence[str] = ()) -> list[str]:
    """Requirements of the project (with these optional groups) that are not installed in a version that fits.

    The project itself counts as one, which is there if this very package lies in its folder: one of the same
    version from elsewhere may be another. Raises OSError or ValueError for a file that cannot be read,
    KeyError for a group that it does not have.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    here = Path(__file__).resolve().parents[2] == pyproject.resolve().parent
    own = f"{project['name']}=={project['version']}"
    texts = [] if here and _fits(Requirement(own)) else [own]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    return texts + [text for text in wanted if not _fits(Requirement(text))]


def _fits(requirement: Requirement) -> bool:
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    try:
        return requirement.specifier.contains(importlib.metadata.version(requirement.name), prereleases=True)
    except importlib.metadata.PackageNotFoundError:
        return False


if __name__ == "__main__":
    left = missing(Path(sys.argv[1]), sys.argv[2:])
    print("installed" if not left else "to be installed: " + ", ".join(left))
    sys.exit(bool(left))
