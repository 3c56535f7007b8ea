"""Where studies and shards live: a folder on this machine, or one in S3 or GCS that outlives it."""

from __future__ import annotations

import os
from pathlib import Path

from senca_ray.errors import SencaError
from senca_ray.files import cache

STORAGE = "SENCA_STORAGE"
"""Variable with the address (s3://, gs://) below which a cluster keeps shards and studies."""


def storage() -> str | None:
    """The address in SENCA_STORAGE, without a slash at its end; None where it is not set.

    Raises SencaError for what is no address.
    """
    given = os.environ.get(STORAGE, "").rstrip("/")
    if given and not given.startswith(("s3://", "gs://")):
        raise SencaError(f"{STORAGE}={given}: expected an address, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER")
    return given or None


def shards_home() -> str:
    """Where prepared sections are kept unless told otherwise: SENCA_STORAGE/shards, else the user's cache."""
    base = storage()
    return f"{base}/shards" if base else str(cache() / "shards")


def study_home(name: str) -> str:
    """Where the study of this name lives unless told otherwise: SENCA_STORAGE/studies, else ./studies."""
    base = storage()
    return f"{base}/studies/{name}" if base else str(Path("studies") / name)
