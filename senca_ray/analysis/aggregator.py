"""The Ray actor through which every trial of a study stores its result rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from senca_ray import keys
from senca_ray.analysis.embeddings import write_embedding
from senca_ray.analysis.results import Journal, write_tables
from senca_ray.analysis.rows import Row, RowKey

NAMESPACE = "senca"


class Aggregator:
    """Writes the journal of one study. Made by `aggregator`, called as a Ray actor."""

    def __init__(self, study_dir: str) -> None:
        """Go on from the journal in `study_dir`; Ray calls this again after a crash of the actor."""
        self._study_dir = Path(study_dir)
        self._journal = Journal(self._study_dir)

    def append(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Store a batch of rows (one fsync) and return how many were new; on disk when this returns.

        An embedding that a row carries becomes a file of its own.
        """
        kept = [dict(row) for row in rows]
        for row in kept:
            # First, so that no row is there without what belongs to it.
            if (values := row.pop(keys.EMBEDDING, None)) is not None:
                write_embedding(self._study_dir, row, values)
        return self._journal.append(kept)

    def keys(self, failed: bool = True) -> list[RowKey]:
        """Keys of the rows stored, with or without failed ones: what need not be run again."""
        return self._journal.keys(failed)

    def rows(self, wanted: Sequence[RowKey]) -> list[Row]:
        """The rows under these keys, in order, without regions and losses; keys without rows are left out."""
        return self._journal.rows(wanted)

    def progress(self) -> dict[str, int]:
        """Number of rows by status."""
        return self._journal.counts()

    def finish(self) -> dict[str, int]:
        """Write the study's tables and return the number of rows by status."""
        write_tables(self._study_dir)
        return self._journal.counts()


def aggregator_name(study_dir: Path) -> str:
    """The actor's name: the same for one study folder, different for another."""
    digest = hashlib.sha256(str(Path(study_dir).resolve()).encode()).hexdigest()
    return f"senca-aggregator-{digest[:16]}"


def aggregator(study_dir: Path) -> Any:
    """Start the aggregator of a study on this node, or return the one that runs; an actor handle.

    To be called by the driver: the study folder is on its node. A crashed actor restarts from the journal
    and repeats the calls it had not answered, which is safe because appending is idempotent.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(Aggregator).options(
        name=aggregator_name(study_dir),
        namespace=NAMESPACE,
        get_if_exists=True,
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=-1,
        scheduling_strategy=here,
    )
    return actor.remote(str(Path(study_dir).resolve()))
