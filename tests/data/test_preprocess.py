import dataclasses
from pathlib import Path

import anndata
import numpy as np
import pytest
import scanpy
from scipy.sparse import csr_matrix
from toys import toy_section

from senca_ray.config import PrepareConfig
from senca_ray.data.preprocess import order_genes
from senca_ray.errors import ProblemsError


@pytest.mark.parametrize("wanted", [5, 20, 40])
@pytest.mark.parametrize("flavor", ["seurat", "cell_ranger"])
def test_a_prefix_is_what_scanpy_selects(tmp_path: Path, wanted: int, flavor: str) -> None:
    section = toy_section(tmp_path, genes=300, columns=12, rows=9)
    config = PrepareConfig(hvg_flavor=flavor)
    expression = order_genes(section, config)

    data = anndata.AnnData(section.counts.astype(np.float32))
    data.var_names = list(section.genes)
    scanpy.pp.filter_genes(data, min_counts=10)
    scanpy.pp.normalize_total(data, target_sum=1e4)
    scanpy.pp.log1p(data)
    scanpy.pp.highly_variable_genes(data, flavor=flavor, n_top_genes=wanted)
    assert set(expression.genes[:wanted]) == set(data.var_names[data.var["highly_variable"]])
    assert set(expression.genes) == set(data.var_names)


def test_dispersion_falls_and_counts_follow_the_genes(tmp_path: Path) -> None:
    section = toy_section(tmp_path, genes=80)
    expression = order_genes(section, PrepareConfig())
    known = expression.dispersion[~np.isnan(expression.dispersion)]
    assert (np.diff(known) <= 0).all()
    column = section.genes.index(expression.genes[7])
    np.testing.assert_array_equal(expression.counts[:, 7].toarray(), section.counts[:, column].toarray())


def test_genes_below_ten_counts_are_dropped(tmp_path: Path) -> None:
    section = toy_section(tmp_path)
    counts = section.counts.toarray()
    counts[:, 0], counts[:, 1] = 0, 0
    counts[0, 0], counts[:2, 1] = 9, 5
    expression = order_genes(dataclasses.replace(section, counts=csr_matrix(counts)), PrepareConfig())
    assert "G0" not in expression.genes
    assert "G1" in expression.genes


def test_no_gene_left_names_the_file_and_the_fix(tmp_path: Path) -> None:
    section = toy_section(tmp_path)
    empty = dataclasses.replace(section, counts=section.counts * 0)
    with pytest.raises(
        ProblemsError, match=r"T1  T1.tsv: 0 of 60 genes .* lower min_gene_count and min_gene_spots"
    ):
        order_genes(empty, PrepareConfig())


def test_a_spot_without_counts_is_ordinary(tmp_path: Path) -> None:
    section = toy_section(tmp_path)
    counts = section.counts.toarray()
    counts[5] = 0
    expression = order_genes(dataclasses.replace(section, counts=csr_matrix(counts)), PrepareConfig())
    assert np.isfinite(expression.dispersion).any()


def test_genes_of_few_spots_are_dropped_when_asked(tmp_path: Path) -> None:
    section = toy_section(tmp_path)
    one_spot = section.counts.tolil()
    one_spot[:, 0] = 0
    one_spot[5, 0] = 100
    section = dataclasses.replace(section, counts=one_spot.tocsr())
    asked = (PrepareConfig(min_gene_spots=n) for n in (0, 1, 2))
    assert ["G0" in order_genes(section, config).genes for config in asked] == [True, True, False]
