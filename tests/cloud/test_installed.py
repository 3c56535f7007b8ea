"""Whether what the package needs is there, before pip is called."""

import subprocess
import sys
from pathlib import Path

import pytest

from senca_ray.cloud.installed import missing

PROJECT = """
[project]
name = "senca-ray"
version = "0.1.0"
dependencies = [{dependencies}]
[project.optional-dependencies]
cloud = ["numpy==0.0.1"]
"""


def project(folder: Path, *dependencies: str) -> Path:
    file = folder / "pyproject.toml"
    file.write_text(PROJECT.format(dependencies=", ".join(f"'{text}'" for text in dependencies)))
    return file


def test_this_environment_has_what_the_repository_pins() -> None:
    assert missing(Path(__file__).parents[2] / "pyproject.toml") == []


def test_what_is_absent_or_of_another_version_is_missing(tmp_path: Path) -> None:
    file = project(tmp_path, "pandas", "numpy<1", "no-such-package", 'also-none; python_version < "3"')
    assert missing(file)[1:] == ["numpy<1", "no-such-package"]


def test_the_package_of_another_folder_is_not_this_one(tmp_path: Path) -> None:
    assert missing(project(tmp_path, "numpy")) == ["senca-ray==0.1.0"]


def test_an_optional_group_counts_when_it_is_asked_for(tmp_path: Path) -> None:
    file = project(tmp_path, "numpy")
    assert missing(file)[1:] == []
    assert missing(file, ["cloud"])[1:] == ["numpy==0.0.1"]
    with pytest.raises(KeyError):
        missing(file, ["none"])


def test_the_command_ends_with_zero_only_when_all_is_there(tmp_path: Path) -> None:
    files = {Path(__file__).parents[2] / "pyproject.toml": 0, project(tmp_path, "no-such-package"): 1}
    for file, code in files.items():
        command = [sys.executable, "-m", "senca_ray.cloud.installed", str(file)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == code, ran.stderr
    assert "no-such-package" in ran.stdout
