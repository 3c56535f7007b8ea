"""Shards: one prepared section each, a folder of Parquet files that every trial and method reads.

    SAMPLE-FINGERPRINT/
      spots.parquet   a row a spot: position, labels, total count, neighbours, image features of each encoder
      genes.parquet   a row a gene, most dispersed first: the spots that express it and their counts
      thumbnail.jpg   the section's image, small, for figures
      shard.json      what it is, how it was made, checksums of the above

Genes are rows in small row groups, so reading the first 500 of 12,000 reads just these.
"""

from __future__ import annotations

import json
import math
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs
from scipy.sparse import csc_matrix, csr_matrix

from senca_ray import keys
from senca_ray.data.location import connect, in_words, is_remote
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.files import sha256

SCHEMA_VERSION = 2
"""Part of every fingerprint: a shard of another version is never taken for a current one."""

FEATURES = "image_features"
"""Column of the first encoder's features; those of a further one are in FEATURES.NAME."""

_PATCH = "patch"
"""Column of the patches, where they are kept."""

_SPOT_ROWS, _GENE_ROWS = 4096, 256
"""Rows in a row group: small, so that memory stays bounded and a prefix reads little."""
_PATCHES_AT_ONCE, _READ_AHEAD = 8, 2**20
"""Patches decoded together beside the array that they go to, and bytes of the file read at once: more took
70 to 180 MB more for 600 patches of 224 pixels, and was no faster."""


@dataclass(frozen=True)
class ShardContent:
    """Everything that a shard holds: N spots, G genes in order, K neighbours."""

    meta: dict[str, Any]
    """Sample, patient, label_source, modality, encoder, config, notes, ...: JSON values only."""
    spots: tuple[str, ...]
    xy: np.ndarray
    pixel_xy: np.ndarray | None
    labels: tuple[str, ...] | None
    neighbors: np.ndarray
    """(N, K) int32."""
    genes: tuple[str, ...]
    counts: csr_matrix
    """(N, G) int32, genes in order."""
    dispersion: np.ndarray
    image_features: np.ndarray | None
    """(N, F) float32 of the first encoder."""
    patches: np.ndarray | None
    """(N, S, S, 3) uint8; only when asked for."""
    thumbnail: bytes | None
    """JPEG."""
    annotations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """(N,) label of each spot by each other annotator."""
    more_features: Mapping[str, np.ndarray] = field(default_factory=dict)
    """(N, F) float32 of every further encoder, by the name it was asked for with."""


@dataclass(frozen=True)
class Display:
    """What figures show of a section; no counts, no features."""

    sample: str
    patient: str
    label_source: str
    modality: str
    encoder: str
    notes: tuple[str, ...]
    spots: tuple[str, ...]
    """(N,) names."""
    xy: np.ndarray
    """(N, 2) in spot distances."""
    pixel_xy: np.ndarray | None
    """(N, 2) positions in the full-resolution image; None without an image."""
    thumbnail: bytes | None
    """JPEG."""
    thumbnail_scale: float
    """Pixels of the thumbnail a pixel of the full-resolution image; 1 without an image."""
    labels: np.ndarray | None
    """(N,) str."""
    annotations: Mapping[str, np.ndarray] = field(default_factory=dict)
    """(N,) str by each other annotator."""
    spot_distance_um: float | None = None
    """Micrometres between adjacent spots; None where the format does not tell."""

    @property
    def thumbnail_xy(self) -> np.ndarray | None:
        """(N, 2) positions in the thumbnail; None without an image."""
        return None if self.pixel_xy is None else self.pixel_xy * self.thumbnail_scale


def shard_name(sample: str, fingerprint: str) -> str:
    """Folder name of a shard."""
    return f"{sample}-{fingerprint[:16]}"


def write_shard(store: Path, content: ShardContent) -> Path:
    """Write a shard under a temporary name and rename it; returns its folder.

    The same content gives the same bytes. Raises SencaError where the store cannot be written, and then
    leaves nothing behind.
    """
    folder = store / shard_name(content.meta["sample"], content.meta["fingerprint"])
    if folder.exists():
        return folder
    with _renamed(folder) as partial:
        pq.write_table(_spots_table(content), partial / keys.SPOTS_FILE, row_group_size=_SPOT_ROWS)
        pq.write_table(_genes_table(content), partial / keys.GENES_FILE, row_group_size=_GENE_ROWS)
        if content.thumbnail is not None:
            (partial / keys.THUMBNAIL_FILE).write_bytes(content.thumbnail)
        meta = content.meta | {
            "schema": SCHEMA_VERSION,
            "spots": len(content.spots),
            "genes": len(content.genes),
            "neighbors": int(content.neighbors.shape[1]),
            "checksums": {p.name: sha256(p) for p in sorted(partial.iterdir())},
        }
        if content.annotations:  # of all other shards the description stays as it is
            meta["annotators"] = sorted(content.annotations)
        (partial / keys.SHARD_FILE).write_text(json.dumps(meta, indent=2, sort_keys=True), encoding="utf-8")
    return folder


@contextmanager
def _renamed(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that becomes it when the block ends well."""
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        if not folder.exists():
            partial.rename(folder)
    except OSError as error:
        raise SencaError(
            f"{folder.parent}: the shard {folder.name} cannot be written ({error.strerror or error}); "
            "free some space or choose another folder"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _spots_table(content: ShardContent) -> pa.Table:
    columns: dict[str, pa.Array] = {
        "spot": pa.array(content.spots),
        "x": pa.array(content.xy[:, 0]),
        "y": pa.array(content.xy[:, 1]),
        "total_count": pa.array(np.asarray(content.counts.sum(axis=1)).ravel().astype(np.int64)),
        "neighbors": _fixed(content.neighbors),
    }
    if content.labels is not None:
        columns["label"] = pa.array(content.labels)
    for name, labels in sorted(content.annotations.items()):
        columns[_annotation_column(name)] = pa.array(labels)
    if content.pixel_xy is not None:
        columns["pixel_x"] = pa.array(content.pixel_xy[:, 0])
        columns["pixel_y"] = pa.array(content.pixel_xy[:, 1])
    if content.image_features is not None:
        columns[FEATURES] = _fixed(content.image_features)
    for name, features in content.more_features.items():
        columns[f"{FEATURES}.{name}"] = _fixed(features)
    if content.patches is not None:
        columns[_PATCH] = _fixed(content.patches.reshape(len(content.spots), -1))
    return pa.table(columns)


def _annotation_column(annotator: str) -> str:
    return f"label.{annotator}"


def _annotation_columns(meta: dict[str, Any]) -> list[str]:
    return [_annotation_column(name) for name in meta.get("annotators", [])]


def _annotations(meta: dict[str, Any], spots: pa.Table) -> dict[str, np.ndarray]:
    names = meta.get("annotators", [])
    return {name: np.array(spots[_annotation_column(name)].to_pylist()) for name in names}


def _genes_table(content: ShardContent) -> pa.Table:
    by_gene = csc_matrix(content.counts)
    by_gene.sort_indices()
    offsets = pa.array(by_gene.indptr.astype(np.int64))
    return pa.table(
        {
            "gene": pa.array(content.genes),
            "dispersion": pa.array(content.dispersion, mask=np.isnan(content.dispersion)),
            "spots": pa.LargeListArray.from_arrays(offsets, pa.array(by_gene.indices.astype(np.int32))),
            "counts": pa.LargeListArray.from_arrays(offsets, pa.array(by_gene.data.astype(np.int32))),
        }
    )


def _fixed(matrix: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])


def _matrix(table: pa.Table, column: str) -> np.ndarray:
    values = table[column].combine_chunks()
    return np.asarray(values.flatten().to_numpy()).reshape(len(table), -1)


def _locate(uri: str) -> tuple[fs.FileSystem, str]:
    return connect(uri) if is_remote(uri) else (fs.LocalFileSystem(), uri)


def read_meta(uri: str) -> dict[str, Any]:
    """Read a shard's description; raises SencaError when `uri` is no shard or one of another version."""
    filesystem, path = _locate(uri)
    with in_words(uri):
        try:
            with filesystem.open_input_file(f"{path}/{keys.SHARD_FILE}") as file:
                meta = json.loads(file.read())
        except FileNotFoundError:
            raise SencaError(
                f"{uri}: not a shard: {keys.SHARD_FILE} is missing; `senca prepare` makes shards"
            ) from None
    if not isinstance(meta, dict) or meta.get("schema") != SCHEMA_VERSION:
        raise SencaError(
            f"{uri}: a shard of another version; this one reads version {SCHEMA_VERSION}: "
            "run `senca prepare` again"
        )
    return meta


def features_column(meta: dict[str, Any], encoder: str) -> tuple[str, str] | None:
    """Column and printed name of an encoder; `encoder` is either name of it ('': the first).

    None for a section without image. Raises SencaError when the shard has no features of it.
    """
    if meta["modality"] != keys.RNA_IMAGE:
        return None
    held = [one["asked"] for one in meta.get("encoders", [])]
    if encoder in ("", meta["encoder"], *held[:1]):
        return FEATURES, meta["encoder"]
    for one in meta.get("encoders", []):
        if encoder in (one["asked"], one["name"]):
            return f"{FEATURES}.{one['asked']}", one["name"]
    wanted = " ".join(f"--encoder {name}" for name in [*held, encoder])
    raise SencaError(
        f"{meta['sample']}: no features of encoder {encoder!r} in its shard; it has those of "
        f"{', '.join(held) or meta['encoder']}: choose one of them, or prepare again: "
        f"`senca prepare DATA {wanted}`"
    )


def asked_for(meta: dict[str, Any], printed: str) -> str:
    """The encoder that tables print as `printed`, as `prepare` was asked for it; '' where that is unknown."""
    return next((one["asked"] for one in meta.get("encoders", []) if one["name"] == printed), "")


def read_sample(uri: str, genes: int, encoder: str = "", patches: bool = False) -> Sample:
    """Read a shard's spots and its first `genes` genes (all, where it holds fewer).

    `encoder` is the one whose image features are read, as `prepare` was asked for it or as result rows print
    it; '': the first. With `patches` those of a section with image are read too, all of them into memory.
    Raises SencaError when `uri` is no shard, or the shard has no features of the encoder, or no patches.
    """
    meta = read_meta(uri)
    filesystem, path = _locate(uri)
    features = features_column(meta, encoder)
    columns = _spot_columns(meta) + ([features[0]] if features else [])
    spots = pq.read_table(f"{path}/{keys.SPOTS_FILE}", filesystem=filesystem, columns=columns)
    names, counts = _read_genes(filesystem, path, genes, len(spots))
    seen = _read_patches(filesystem, path, meta) if patches and features else None
    columns = spots.column_names
    sample = Sample(
        name=meta["sample"],
        patient=meta["patient"],
        label_source=meta["label_source"],
        fingerprint=meta["fingerprint"],
        encoder=features[1] if features else meta["encoder"],
        genes=names,
        counts=counts,
        total_counts=spots["total_count"].to_numpy(),
        target_sum=meta["config"]["target_sum"],
        xy=np.column_stack([spots["x"].to_numpy(), spots["y"].to_numpy()]),
        neighbors=_matrix(spots, "neighbors"),
        image_features=_matrix(spots, features[0]) if features else None,
        labels=np.array(spots["label"].to_pylist()) if "label" in columns else None,
        annotations=_annotations(meta, spots),
        encoder_asked=asked_for(meta, features[1]) if features else "",
        patches=seen,
    )
    del spots
    pa.default_memory_pool().release_unused()  # gigabytes, of a section of 500,000 spots
    return sample


def _read_genes(
    filesystem: fs.FileSystem, path: str, genes: int, spots: int
) -> tuple[tuple[str, ...], csr_matrix]:
    """Names and (N, G) int32 counts of a shard's first `genes` genes."""
    with pq.ParquetFile(f"{path}/{keys.GENES_FILE}", filesystem=filesystem) as file:
        count = min(genes, file.metadata.num_rows)
        groups = list(range(-(-count // _GENE_ROWS)))
        table = file.read_row_groups(groups, columns=["gene", "spots", "counts"]).slice(0, count)
    table = table.combine_chunks()
    lengths = np.asarray(table["spots"].combine_chunks().value_lengths().to_numpy(zero_copy_only=False))
    by_gene = csc_matrix(
        (
            table["counts"].combine_chunks().flatten().to_numpy(),
            table["spots"].combine_chunks().flatten().to_numpy(),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        ),
        shape=(spots, count),
    )
    return tuple(table["gene"].to_pylist()), csr_matrix(by_gene)


def _read_patches(filesystem: fs.FileSystem, path: str, meta: dict[str, Any]) -> np.ndarray:
    """(N, S, S, 3) uint8, decoded a few at a time: a large section's take gigabytes once, not twice."""
    spots = f"{path}/{keys.SPOTS_FILE}"
    with pq.ParquetFile(spots, filesystem=filesystem, buffer_size=_READ_AHEAD, pre_buffer=False) as file:
        if _PATCH not in file.schema_arrow.names:
            raise SencaError(
                f"{meta['sample']}: no patches in its shard, which fine-tuning reads; prepare again with "
                "them (`senca prepare DATA --patches`), or set finetune=false"
            )
        values = file.schema_arrow.field(_PATCH).type.list_size
        side = math.isqrt(values // 3)
        found = np.empty((file.metadata.num_rows, side, side, 3), dtype=np.uint8)
        start = 0
        for batch in file.iter_batches(_PATCHES_AT_ONCE, columns=[_PATCH]):
            rows = batch.column(0).flatten().to_numpy().reshape(len(batch), side, side, 3)
            found[start : start + len(batch)] = rows
            start += len(batch)
    return found


def read_features(spots_file: Path, column: str) -> np.ndarray:
    """(N, F) float32: one column of features of a shard on this machine."""
    return _matrix(pq.read_table(spots_file, columns=[column]), column)


def _spot_columns(meta: dict[str, Any]) -> list[str]:
    columns = ["x", "y", "total_count", "neighbors"]
    if meta["label_source"] != keys.UNLABELLED:
        columns.append("label")
    return columns + _annotation_columns(meta)


def read_display(uri: str) -> Display:
    """Read what figures show of a shard; raises SencaError when `uri` is no shard."""
    meta = read_meta(uri)
    filesystem, path = _locate(uri)
    has_image, has_labels = meta["modality"] == keys.RNA_IMAGE, meta["label_source"] != keys.UNLABELLED
    columns = ["spot", "x", "y"] + ["pixel_x", "pixel_y"] * has_image + ["label"] * has_labels
    columns += _annotation_columns(meta)
    spots = pq.read_table(f"{path}/{keys.SPOTS_FILE}", filesystem=filesystem, columns=columns)
    thumbnail, pixel_xy = None, None
    if has_image:
        with filesystem.open_input_file(f"{path}/{keys.THUMBNAIL_FILE}") as file:
            thumbnail = file.read()
        pixel_xy = np.column_stack([spots["pixel_x"].to_numpy(), spots["pixel_y"].to_numpy()])
    return Display(
        sample=meta["sample"],
        patient=meta["patient"],
        label_source=meta["label_source"],
        modality=meta["modality"],
        encoder=meta["encoder"],
        notes=tuple(meta["notes"]),
        spots=tuple(spots["spot"].to_pylist()),
        xy=np.column_stack([spots["x"].to_numpy(), spots["y"].to_numpy()]),
        pixel_xy=pixel_xy,
        thumbnail=thumbnail,
        thumbnail_scale=float(meta["thumbnail_scale"]) if has_image else 1.0,
        labels=np.array(spots["label"].to_pylist()) if has_labels else None,
        annotations=_annotations(meta, spots),
        spot_distance_um=meta.get("spot_distance_um"),
    )


def damaged_files(shard: Path) -> list[str]:
    """Names of a local shard's files that are missing or differ from their checksums."""
    checksums: dict[str, str] = read_meta(str(shard))["checksums"]
    return [n for n, c in checksums.items() if not (shard / n).is_file() or sha256(shard / n) != c]
