from __future__ import annotations

from pathlib import Path

import pytest
from study_folder import make_study


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of four sections, to be read only."""
    return make_study(tmp_path_factory.mktemp("finished"))
