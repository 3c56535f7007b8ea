import pytest
import torch

from senca_ray.model.graph_transformer import group_mean
from senca_ray.model.losses import LossTerms, loss_terms, nt_xent
from senca_ray.model.senca import Output, SectionTensors


def test_nt_xent_against_a_case_worked_by_hand() -> None:
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    second = torch.tensor([[6.0, 8.0], [-2.0, 0.0]])  # directions (0.6, 0.8) and (-1, 0)
    # Cosine similarities divided by the temperature 0.5, the partner's marked *:
    #   a1: a2  0.0   b1  1.2*  b2 -2.0   ->  ln(1.000000 + 3.320117 + 0.135335) - 1.2 = 0.294128
    #   a2: a1  0.0   b1  1.6   b2  0.0*  ->  ln(1.000000 + 4.953032 + 1.000000) - 0.0 = 1.939178
    #   b1: a1  1.2*  a2  1.6   b2 -1.2   ->  ln(3.320117 + 4.953032 + 0.301194) - 1.2 = 0.948775
    #   b2: a1 -2.0   a2  0.0*  b1 -1.2   ->  ln(0.135335 + 1.000000 + 0.301194) - 0.0 = 0.362230
    expected = (0.294128 + 1.939178 + 0.948775 + 0.362230) / 4
    assert nt_xent(first, second, 0.5).item() == pytest.approx(expected, abs=2e-6)
    assert nt_xent(second, first, 0.5).item() == pytest.approx(expected, abs=2e-6)


def test_nt_xent_prefers_the_right_partners() -> None:
    rows = torch.eye(4)
    assert nt_xent(rows, rows, 0.1) < nt_xent(rows, rows.roll(1, 0), 0.1)


def test_group_mean_pools_each_tile() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0], [10.0, 20.0]])
    pooled = group_mean(values, torch.tensor([1, 1, 0]), torch.tensor([1.0, 2.0]))
    assert pooled.tolist() == [[10.0, 20.0], [2.0, 3.0]]


def section_and_output(image: bool) -> tuple[SectionTensors, Output]:
    generator = torch.Generator().manual_seed(0)
    rna, embedding_image, target, decoded = torch.randn(4, 6, 3, generator=generator)
    spots = torch.arange(6)
    section = SectionTensors(
        expression=torch.zeros(6, 2),
        neighborhood=torch.stack([spots, (spots + 1) % 6], dim=1),
        tiles=torch.tensor([0, 0, 1, 1, 1, 0]),
        tile_sizes=torch.tensor([3.0, 3.0]),
        image_features=torch.zeros(6, 2) if image else None,
    )
    return section, Output(rna, embedding_image if image else None, target, target, decoded)


def test_terms_are_pooled_windowed_and_reconstruction() -> None:
    section, output = section_and_output(image=True)
    terms = loss_terms(output, section, 0.5)
    assert output.image is not None
    pooled = [torch.stack([x[[0, 1, 5]].mean(0), x[[2, 3, 4]].mean(0)]) for x in (output.image, output.rna)]
    windowed = [(x + x.roll(-1, 0)) / 2 for x in (output.image, output.rna)]
    torch.testing.assert_close(terms.pooled, nt_xent(*pooled, 0.5))
    torch.testing.assert_close(terms.windowed, nt_xent(*windowed, 0.5))
    squared = (output.reconstruction - output.encoder_input) ** 2
    torch.testing.assert_close(terms.reconstruction, squared.mean(dim=1).mean())


def test_total_is_equation_1() -> None:
    terms = LossTerms(torch.tensor(1.0), torch.tensor(2.0), torch.tensor(0.5))
    assert terms.total(40).item() == 23.0


def test_a_section_without_image_has_nothing_to_contrast() -> None:
    section, output = section_and_output(image=False)
    terms = loss_terms(output, section, 0.5)
    assert terms.pooled is None and terms.windowed is None
    torch.testing.assert_close(terms.total(40), 40 * terms.reconstruction)


def test_drawn_rows_estimate_what_all_rows_give() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(400, 6, generator=generator)
    second = first + 0.5 * torch.randn(400, 6, generator=generator)
    everything = nt_xent(first, second, 0.5).item()
    drawn = [torch.randperm(400, generator=generator)[:100] for _ in range(30)]
    estimates = torch.stack([nt_xent(first[d], second[d], 0.5, drawn_from=400) for d in drawn])
    assert estimates.mean().item() == pytest.approx(everything, rel=0.01)
    # Fewer others to tell the partner from would be easier.
    assert nt_xent(first[drawn[0]], second[drawn[0]], 0.5).item() < 0.85 * everything
    assert nt_xent(first, second, 0.5, drawn_from=400).item() == everything
