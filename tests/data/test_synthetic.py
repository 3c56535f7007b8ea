"""The simulated cohort: its files, and that it is neither easy nor noise."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from scipy.sparse import csr_matrix
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from senca_ray import keys
from senca_ray.config import PrepareConfig
from senca_ray.data.graph import nearest_neighbors
from senca_ray.data.patches import crop_patches, spot_distance_pixels
from senca_ray.data.pictures.pillow import PillowPicture
from senca_ray.data.preprocess import normalised_dispersion
from senca_ray.data.readers.her2st import Her2stReader
from senca_ray.data.synthetic import simulate_cohort
from senca_ray.data.synthetic_section import (
    ALIKE_IN_EXPRESSION,
    ALIKE_IN_HISTOLOGY,
    REGIONS,
    SPOT_PIXELS,
    SimulatedSection,
    simulate_section,
)
from senca_ray.errors import SencaError
from senca_ray.methods.smoothing import neighborhood_mean
from senca_ray.model.image_encoder import load_encoder

PATCH_PIXELS = 112
"""Half of what `prepare` uses: 224 px gives the same picture in four times the time."""
HVGS = 500


# --- The cohort's files ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cohorts") / "simulated"
    assert simulate_cohort(out, patients=1, sections_per_patient=2) == ["A1", "A2"]
    return out


def digests(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_cohort_has_the_her2st_layout(cohort: Path) -> None:
    assert set(digests(cohort)) == {
        "cohort.yaml",
        *(f"ST-cnts/A{i}.tsv.gz" for i in (1, 2)),
        *(f"ST-spotfiles/A{i}_selection.tsv" for i in (1, 2)),
        *(f"ST-pat/lbl/A{i}_labeled_coordinates.tsv" for i in (1, 2)),
        *(f"ST-imgs/A/A{i}/A{i}_HE.jpg" for i in (1, 2)),
    }
    assert yaml.safe_load((cohort / "cohort.yaml").read_text())["labels"] == keys.SIMULATED


def test_files_of_a_section_agree_with_what_generated_it(cohort: Path) -> None:
    section = simulate_section(0, 1)
    counts = pd.read_csv(cohort / "ST-cnts/A2.tsv.gz", sep="\t", index_col=0)
    assert counts.columns.tolist() == list(section.genes)
    assert np.array_equal(counts.to_numpy(), section.counts)
    assert counts.index.tolist() == [f"{x}x{y}" for x, y in section.xy]

    spots = pd.read_csv(cohort / "ST-spotfiles/A2_selection.tsv", sep="\t")
    assert spots.columns.tolist() == ["x", "y", "new_x", "new_y", "pixel_x", "pixel_y", "selected"]
    assert np.array_equal(spots[["x", "y"]], section.xy)
    labels = pd.read_csv(cohort / "ST-pat/lbl/A2_labeled_coordinates.tsv", sep="\t")
    assert labels.columns.tolist() == ["Row.names", "x", "y", "pixel_x", "pixel_y", "label"]
    assert np.array_equal(labels[["x", "y"]].round(), section.xy), "float coordinates round to the spots"
    assert labels["label"].tolist() == section.labels.tolist()

    with Image.open(cohort / "ST-imgs/A/A2/A2_HE.jpg") as image:
        assert image.size == section.image.shape[1::-1]
        difference = np.abs(np.asarray(image, dtype=float) - section.image)
    assert difference.mean() < 6, "JPEG changes the painting only slightly"


def test_the_her2st_reader_reads_it_without_remarks(cohort: Path) -> None:
    reader, section = Her2stReader(), simulate_section(0, 0)
    files = reader.find(cohort)
    assert [(f.sample, f.patient, f.label_source) for f in files] == [
        ("A1", "A", keys.SIMULATED),
        ("A2", "A", keys.SIMULATED),
    ]
    raw = reader.read(files[0], max_image_pixels=10**9)
    assert raw.notes == ()
    assert raw.genes == section.genes
    assert np.array_equal(raw.counts.toarray(), section.counts)
    assert raw.labels == tuple(section.labels.tolist())
    assert raw.pixel_xy is not None
    assert np.allclose(raw.pixel_xy, section.pixel_xy, atol=0.01)
    assert raw.modality == keys.RNA_IMAGE


def test_same_seed_gives_the_same_bytes_and_another_seed_other_ones(cohort: Path, tmp_path: Path) -> None:
    simulate_cohort(tmp_path / "again", patients=1, sections_per_patient=1)
    simulate_cohort(tmp_path / "other", patients=1, sections_per_patient=1, seed=1)
    before, again, other = digests(cohort), digests(tmp_path / "again"), digests(tmp_path / "other")
    assert len(again) == 5
    assert all(before[name] == digest for name, digest in again.items())
    assert not set(again.values()) & set(other.values())
    assert (cohort / "ST-cnts/A1.tsv.gz").read_bytes()[4:8] == bytes(4), "a time stamp in the gzip header"


def test_counts_files_stay_small(cohort: Path) -> None:
    path = cohort / "ST-cnts/A1.tsv.gz"
    assert path.stat().st_size < 1_000_000
    with gzip.open(path, "rt") as file:
        assert 1_000 <= len(file.readline().split("\t")) - 1 <= 2_000


def test_folder_with_files_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(SencaError, match="name a new folder"):
        simulate_cohort(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]


def test_empty_folder_is_filled(tmp_path: Path) -> None:
    messages: list[str] = []
    simulate_cohort(tmp_path / "new", patients=1, sections_per_patient=1, progress=messages.append)
    assert (tmp_path / "new/cohort.yaml").is_file()
    assert len(messages) == 1
    assert messages[0].startswith("A1: ")


def test_interrupted_simulation_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupt(message: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_cohort(tmp_path / "new", patients=1, sections_per_patient=1, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SencaError, match=r"cohort: cannot be written .*name a folder you may write to"):
        simulate_cohort(tmp_path / "file" / "cohort")


@pytest.mark.parametrize(
    "wrong", [{"patients": 0}, {"patients": 27}, {"sections_per_patient": 0}, {"seed": -1}]
)
def test_numbers_out_of_range_are_named(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(SencaError, match=f"{next(iter(wrong))}: .* found; expected"):
        simulate_cohort(tmp_path / "new", **wrong)


# --- What the sections hold --------------------------------------------------------------------------


@dataclass(frozen=True)
class Observed:
    """The six sections of the default cohort as an analyst sees them."""

    sections: list[SimulatedSection]
    expression: list[np.ndarray]
    """Log-normalised counts of all genes."""
    image_features: list[np.ndarray]

    def scored(self, index: int, regions: np.ndarray) -> float:
        labels = self.sections[index].labels
        known = labels != keys.UNDETERMINED
        return float(adjusted_rand_score(labels[known], regions[known]))


@pytest.fixture(scope="module")
def observed() -> Observed:
    sections = [simulate_section(patient, section) for patient in range(3) for section in range(2)]
    encoder = load_encoder("efficientnet-lite0")
    features = [
        encoder.features(
            crop_patches(PillowPicture(Image.fromarray(s.image)), s.pixel_xy, SPOT_PIXELS, PATCH_PIXELS)
        )
        for s in sections
    ]
    return Observed(sections, [log_normalised(s.counts) for s in sections], features)


def log_normalised(counts: np.ndarray) -> np.ndarray:
    return np.log1p(1e4 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def components(values: np.ndarray, number: int) -> np.ndarray:
    return PCA(number, svd_solver="full").fit_transform(values)


def variable_genes(counts: np.ndarray) -> np.ndarray:
    dispersion = normalised_dispersion(csr_matrix(counts), PrepareConfig())
    return np.argsort(-np.nan_to_num(dispersion, nan=-np.inf), kind="stable")[:HVGS]


def test_sections_are_of_the_promised_size(observed: Observed) -> None:
    assert [s.sample for s in observed.sections] == ["A1", "A2", "B1", "B2", "C1", "C2"]
    for section in observed.sections:
        assert 300 <= len(section.xy) <= 600
        assert len({tuple(p) for p in section.xy.tolist()}) == len(section.xy)
        assert set(section.labels) == {*REGIONS, keys.UNDETERMINED}
        assert min(np.unique(section.labels, return_counts=True)[1]) >= 10
        assert np.mean(section.labels == keys.UNDETERMINED) < 0.15
        assert 1500 <= section.image.shape[1] <= 2500
        assert spot_distance_pixels(section.pixel_xy) == pytest.approx(SPOT_PIXELS, rel=0.1)
        assert 2 * SPOT_PIXELS >= 100, "a patch of radius 1 has enough pixels"


def test_sections_of_a_patient_resemble_each_other(observed: Observed) -> None:
    """Regions at the same array coordinates agree more often within a patient than between patients."""

    def agreement(a: SimulatedSection, b: SimulatedSection) -> float:
        there = dict(zip(map(tuple, b.xy.tolist()), b.regions, strict=True))
        pairs = [
            (r, there[tuple(p)]) for p, r in zip(a.xy.tolist(), a.regions, strict=True) if tuple(p) in there
        ]
        return float(np.mean([r == q for r, q in pairs]))

    s = observed.sections
    within = [agreement(s[i], s[i + 1]) for i in (0, 2, 4)]
    between = [agreement(s[i], s[j]) for i, j in ((0, 2), (0, 4), (2, 4))]
    assert min(within) > 0.5 > max(between)


def test_counts_are_overdispersed_with_spread_and_a_spatial_capture_rate(observed: Observed) -> None:
    for section, expression in zip(observed.sections, observed.expression, strict=True):
        library = np.log(section.counts.sum(axis=1))
        assert 0.3 < library.std() < 0.9
        assert np.corrcoef(library, np.log(section.capture))[0, 1] > 0.4
        capture = np.log(section.capture)[:, None]
        around = neighborhood_mean(capture, nearest_neighbors(section.xy, 4))
        assert np.corrcoef(capture[:, 0], around[:, 0])[0, 1] > 0.9, "the capture rate varies smoothly"
        background = [i for i, gene in enumerate(section.genes) if gene.startswith("GENE")]
        scaled = section.counts[:, background] / section.counts.sum(axis=1, keepdims=True)
        mean = section.counts[:, background].mean(axis=0)
        poisson = scaled.mean(axis=0) * (1 / section.counts.sum(axis=1)).mean()
        frequent = mean > 2
        assert np.median(scaled.var(axis=0)[frequent] / poisson[frequent]) > 1.5, (
            "no more spread than Poisson"
        )
        assert expression.shape == section.counts.shape


def test_images_show_tissue_on_glass_in_varying_stains(observed: Observed) -> None:
    means = []
    for section in observed.sections:
        border = np.concatenate([section.image[:10].reshape(-1, 3), section.image[-10:].reshape(-1, 3)])
        assert border.min() > 225, "the section is cut off by the image"
        tumour = section.pixel_xy[section.regions == "invasive cancer"].astype(int)
        means.append(section.image[tumour[:, 1], tumour[:, 0]].mean(axis=0))
        red, green, blue = means[-1]
        assert green < red, "stained pink to purple"
        assert green < blue
    assert np.ptp(means, axis=0).max() > 8, "every section is stained alike"


# --- Neither easy nor noise --------------------------------------------------------------------------


def controls(observed: Observed, index: int) -> dict[str, float]:
    """ARI of every single-modality control on one section, k as labelled."""
    section, image = observed.sections[index], observed.image_features[index]
    genes = observed.expression[index][:, variable_genes(section.counts)]
    near4, near8 = (nearest_neighbors(section.xy, k) for k in (4, 8))
    twice = neighborhood_mean(neighborhood_mean(image, near8), near8)
    k = len(REGIONS)
    expressions = {
        "PCA": genes,
        "smoothed PCA, 4 neighbours": neighborhood_mean(genes, near4),
        "smoothed PCA, 8 neighbours": neighborhood_mean(genes, near8),
    }
    images = {"image features": image, "smoothed image features": twice}
    regions = {
        name: KMeans(k, n_init=10, random_state=0).fit_predict(components(values, 15))
        for name, values in expressions.items()
    } | {
        name: AgglomerativeClustering(k).fit_predict(components(values, 30))
        for name, values in images.items()
    }
    return {name: observed.scored(index, found) for name, found in regions.items()}


def test_every_single_modality_control_lies_between_noise_and_easy(observed: Observed) -> None:
    table = pd.DataFrame(
        [controls(observed, i) for i in range(6)], index=[s.sample for s in observed.sections]
    )
    mean = table.mean()
    assert mean.between(0.1, 0.7).all(), f"\n{table.round(2).to_string()}\nmean\n{mean.round(3).to_string()}"


def by_patient(sections: list[SimulatedSection]) -> list[tuple[list[int], list[int]]]:
    """(train, test) section indices, leaving one patient out: nothing of a patient is on both sides."""
    patients = sorted({s.patient for s in sections})
    return [
        (
            [i for i, s in enumerate(sections) if s.patient != left_out],
            [i for i, s in enumerate(sections) if s.patient == left_out],
        )
        for left_out in patients
    ]


def test_regions_follow_from_the_factors_that_generated_them(observed: Observed) -> None:
    accuracy, ari = {}, {}
    for train, test in by_patient(observed.sections):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        model.fit(
            np.concatenate([observed.sections[i].factors() for i in train]),
            np.concatenate([observed.sections[i].regions for i in train]),
        )
        for section in (observed.sections[i] for i in test):
            predicted = model.predict(section.factors())
            accuracy[section.sample] = float(np.mean(predicted == section.regions))
            ari[section.sample] = float(adjusted_rand_score(section.regions, predicted))
    assert np.mean(list(accuracy.values())) > 0.9, accuracy
    assert np.mean(list(ari.values())) > 0.9, ari


def separation(observed: Observed, modality: str, pair: tuple[str, str], forest: bool) -> dict[str, float]:
    """AUC with which a classifier tells a pair of regions apart in sections of patients it never saw.

    All spots of the pair take part, also those on borders: their surroundings must not tell them apart.
    """
    if modality == "image":
        values = components(np.concatenate(observed.image_features), 30)
    else:
        genes = variable_genes(np.concatenate([s.counts for s in observed.sections]))
        values = components(np.concatenate(observed.expression)[:, genes], 15)
    ends = np.cumsum([len(s.xy) for s in observed.sections])[:-1]
    chosen = [np.isin(s.regions, pair) for s in observed.sections]
    x = [v[c] for v, c in zip(np.split(values, ends), chosen, strict=True)]
    y = [s.regions[c] == pair[0] for s, c in zip(observed.sections, chosen, strict=True)]
    result = {}
    for train, test in by_patient(observed.sections):
        model = (
            RandomForestClassifier(200, min_samples_leaf=3, random_state=0)
            if forest
            else make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        )
        model.fit(np.concatenate([x[i] for i in train]), np.concatenate([y[i] for i in train]))
        for i in test:
            result[observed.sections[i].sample] = float(roc_auc_score(y[i], model.predict_proba(x[i])[:, 1]))
    return result


@pytest.mark.parametrize("forest", [False, True], ids=["logistic", "forest"])
@pytest.mark.parametrize(
    ("pair", "misleading", "telling"),
    [(ALIKE_IN_HISTOLOGY, "image", "expression"), (ALIKE_IN_EXPRESSION, "expression", "image")],
    ids=["alike in histology", "alike in expression"],
)
def test_special_pairs_are_alike_in_one_modality_only(
    observed: Observed, pair: tuple[str, str], misleading: str, telling: str, forest: bool
) -> None:
    alike = separation(observed, misleading, pair, forest)
    assert 0.4 < np.mean(list(alike.values())) < 0.6, alike
    different = separation(observed, telling, pair, forest)
    assert np.mean(list(different.values())) > 0.9, different


def test_both_modalities_together_tell_more_than_either(observed: Observed) -> None:
    """Even bare concatenation clusters better than either modality by the same means."""
    together, alone = [], []
    for index, section in enumerate(observed.sections):
        rna = components(observed.expression[index][:, variable_genes(section.counts)], 15)
        image = components(observed.image_features[index], 30)
        scaled = [values / np.sqrt(values.var(axis=0).sum()) for values in (rna, image)]
        found = [AgglomerativeClustering(len(REGIONS)).fit_predict(v) for v in (*scaled, np.hstack(scaled))]
        scores = [observed.scored(index, regions) for regions in found]
        alone.append(scores[:2])
        together.append(scores[2])
    assert np.mean(together) > np.mean(alone, axis=0).max(), (alone, together)
