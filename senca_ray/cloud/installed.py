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

    The project itself counts as one. Raises OSError or ValueError for a file that cannot be read, KeyError
    for a group that it does not have.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    texts = [f"{project['name']}=={project['version']}", *project["dependencies"]]
    for extra in extras:
        texts += project["optional-dependencies"][extra]
    return [text for text in texts if not _fits(Requirement(text))]


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
