"""What methods learnt: of every trial that keeps it, the embedding of its typical seed, a file each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from senca_ray import keys
from senca_ray.errors import SencaError
from senca_ray.files import write_whole

_TRIAL = (keys.METHOD, keys.SETTING, keys.SAMPLE)


@dataclass(frozen=True)
class KeptEmbedding:
    """What one seed learnt about a section of N spots."""

    seed: int
    values: np.ndarray
    """(N, D) float32."""


def write_embedding(study_dir: Path, row: Mapping[str, Any], values: np.ndarray) -> None:
    """Keep an embedding (N, D) under the trial of a result row, whole or not at all; raises SencaError."""
    told = {name: row[name] for name in (*_TRIAL, keys.SEED)}
    flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).ravel())
    table = pa.table({keys.EMBEDDING: pa.FixedSizeListArray.from_arrays(flat, values.shape[1])})
    table = table.replace_schema_metadata({"senca": json.dumps(told)})
    path = _path(study_dir, *(told[name] for name in _TRIAL))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda temporary: pq.write_table(table, temporary))


def read_embedding(study_dir: Path, method: str, setting: str, sample: str) -> KeptEmbedding | None:
    """The embedding that a trial kept; None where it kept none. Raises SencaError for a damaged file."""
    path = _path(study_dir, method, setting, sample)
    if not path.exists():
        return None
    try:
        table = pq.read_table(path)
        told = json.loads(table.schema.metadata[b"senca"])
        column = table[keys.EMBEDDING].combine_chunks()
        values = column.flatten().to_numpy().reshape(len(table), -1)
        return KeptEmbedding(seed=int(told[keys.SEED]), values=values)
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise SencaError(
            f"{path}: not an embedding ({error}); remove the file: the page then goes without it"
        ) from None


def keep_embeddings(study_dir: Path, settings: Collection[str | None]) -> None:
    """Remove the embeddings of all other settings: a search tries many and shows few.

    A file that cannot be read is left: whoever wants to show it says what is wrong with it.
    """
    for path in sorted((Path(study_dir) / keys.EMBEDDING_FOLDER).glob("*.parquet")):
        try:
            setting = json.loads(pq.read_schema(path).metadata[b"senca"])[keys.SETTING]
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
            continue
        if setting not in settings:
            path.unlink()


def _path(study_dir: Path, *trial: str) -> Path:
    digest = hashlib.sha256(json.dumps(trial).encode()).hexdigest()
    return Path(study_dir) / keys.EMBEDDING_FOLDER / f"{digest[:16]}.parquet"
