import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.func import functional_call, stack_module_state

from senca_ray.config import Setting
from senca_ray.model import losses
from senca_ray.model.graph_transformer import dropout_masks
from senca_ray.model.losses import LossTerms, loss_terms
from senca_ray.model.senca import SectionTensors, Senca, standardise

SETTING = Setting(hvgs=10, neighbors=2, embedding=8, hidden=12, bottleneck=4)
N, F = 12, 6


def section(image: bool = True) -> SectionTensors:
    generator = torch.Generator().manual_seed(0)
    spots = torch.arange(N)
    return SectionTensors(
        expression=torch.rand(N, SETTING.hvgs, generator=generator),
        neighborhood=torch.stack([spots, (spots + 1) % N, (spots - 1) % N], dim=1),
        tiles=spots // 3,
        tile_sizes=torch.full((N // 3,), 3.0),
        image_features=torch.randn(N, F, generator=generator) if image else None,
    )


def network(setting: Setting = SETTING, image: bool = True) -> Senca:
    torch.manual_seed(1)
    return Senca(setting.hvgs, F if image else None, setting)


def gradient(total: Callable[[LossTerms], torch.Tensor], model: Senca | None = None) -> torch.Tensor:
    model = model or network()
    total(loss_terms(model(section()), section(), SETTING.temperature)).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_lambda_and_each_contrastive_term_change_the_gradient() -> None:
    full = gradient(lambda terms: terms.total(40))
    without = {
        "λ": gradient(lambda terms: terms.total(1)),
        "pooled": gradient(lambda terms: terms.total(40) - terms.pooled),
        "windowed": gradient(lambda terms: terms.total(40) - terms.windowed),
        "reconstruction": gradient(lambda terms: terms.pooled + terms.windowed + 0 * terms.reconstruction),
    }
    for name, other in without.items():
        assert (full - other).norm() > 1e-3 * full.norm(), name


def test_cross_attention_changes_the_gradient() -> None:
    attending, uniform = network(), network()
    with torch.no_grad():
        for layer in (uniform.cross_attention.attend_rna, uniform.cross_attention.attend_image):
            layer.query.weight.zero_()  # every neighbour weighs the same
    gradient(lambda terms: terms.total(40), attending)
    gradient(lambda terms: terms.total(40), uniform)
    for name in ("attend_rna", "attend_image"):
        for weight in ("query", "key", "value"):
            assert getattr(getattr(attending.cross_attention, name), weight).weight.grad.norm() > 0
    difference = attending.decoder.weight.grad - uniform.decoder.weight.grad
    assert difference.norm() > 1e-4 * attending.decoder.weight.grad.norm()


@pytest.mark.parametrize("change", [{"target": "literal"}, {"softmax": "product"}])
@pytest.mark.parametrize("image", [True, False])
def test_other_readings_run_and_differ(change: dict[str, str], image: bool) -> None:
    other = dataclasses.replace(SETTING, **change)  # type: ignore[arg-type]
    default = network(SETTING, image)(section(image)).embedding
    found = network(other, image)(section(image)).embedding
    assert found.isfinite().all()
    assert not torch.allclose(default, found, atol=1e-3)


@pytest.mark.parametrize("change", [{"softmax": "neighbours"}, {"softmax": "product"}])
@pytest.mark.parametrize("image", [True, False])
def test_uniform_attention_is_the_mean_over_the_neighbourhood(change: dict[str, str], image: bool) -> None:
    """Softmax over equal scores weighs alike, and so do scores that all are 1 / (K + 1)."""
    learned = network(dataclasses.replace(SETTING, **change), image)  # type: ignore[arg-type]
    uniform = network(dataclasses.replace(SETTING, attention="uniform", **change), image)  # type: ignore[arg-type]
    assert not torch.allclose(learned(section(image)).embedding, uniform(section(image)).embedding, atol=1e-3)
    layers = [layer for name, layer in learned.cross_attention.named_children() if "attend" in name]
    if change["softmax"] == "neighbours":
        with torch.no_grad():
            for layer in layers:
                layer.query.weight.zero_()
        expected = learned(section(image)).embedding
        torch.testing.assert_close(uniform(section(image)).embedding, expected)
    else:
        layer = uniform.cross_attention.attend_rna
        values = torch.randn(N, SETTING.embedding)
        mean = layer.value(values)[section().neighborhood].mean(dim=1)
        torch.testing.assert_close(layer(values, values, values, section().neighborhood), mean.softmax(dim=1))


def test_uniform_attention_starts_from_the_same_weights_and_never_moves_the_idle_ones() -> None:
    learned, uniform = network(), network(dataclasses.replace(SETTING, attention="uniform"))
    for (name, a), (other, b) in zip(learned.named_parameters(), uniform.named_parameters(), strict=True):
        assert name == other and torch.equal(a, b)
    gradient(lambda terms: terms.total(40), uniform)
    idle = {name for name, weight in uniform.named_parameters() if weight.grad is None}
    assert idle == {
        f"cross_attention.{name}"
        for name in (
            *(f"attend_{modality}.{w}.weight" for modality in ("rna", "image") for w in ("query", "key")),
            *(f"project_{modality}.{part}" for modality in ("rna", "image") for part in ("weight", "bias")),
        )
    }


def test_without_contrast_only_the_reconstruction_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    output = network()(section())
    full = loss_terms(output, section(), 0.5)
    monkeypatch.setattr(losses, "nt_xent", lambda *_: pytest.fail("the contrast was computed"))
    terms = loss_terms(output, section(), 0.5, contrast=False)
    assert terms.pooled is None and terms.windowed is None
    assert torch.equal(terms.reconstruction, full.reconstruction)
    assert torch.equal(terms.total(40), 40 * full.reconstruction)


def test_standardised_target_is_what_the_encoder_receives() -> None:
    model, literal = network(), network(dataclasses.replace(SETTING, target="literal"))
    fused = literal(section()).encoder_input
    output = model(section())
    torch.testing.assert_close(output.encoder_input, standardise(fused))
    torch.testing.assert_close(output.embedding, model.encoder(output.encoder_input))
    torch.testing.assert_close(output.reconstruction, model.decoder(output.embedding))


def test_standardise_leaves_constant_columns_at_zero() -> None:
    values = torch.tensor([[1.0, 7.0], [2.0, 7.0], [6.0, 7.0]])
    found = standardise(values)
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.var(dim=0, correction=0), torch.tensor([1.0, 0.0]))


def test_without_an_image_there_is_no_image_branch() -> None:
    model = network(image=False)
    assert not any("image" in name for name, _ in model.named_parameters())
    output = model(section(image=False))
    assert output.image is None and output.embedding.shape == (N, SETTING.bottleneck)


@pytest.mark.parametrize(
    "change",
    [{}, {"softmax": "product"}, {"attention": "uniform"}, {"target": "literal"}, {"embedding": 7}],
    ids=str,
)
@pytest.mark.parametrize("image", [True, False])
def test_many_seeds_can_run_as_one_batched_model(image: bool, change: dict[str, Any]) -> None:
    tensors, setting = section(image), dataclasses.replace(SETTING, **change)
    models = []
    for seed in (1, 2, 3):
        torch.manual_seed(seed)
        models.append(Senca(setting.hvgs, F if image else None, setting).double())
    tensors = tensors._replace(
        **{name: x.double() for name, x in tensors._asdict().items() if name in ("expression", "tile_sizes")},
        image_features=tensors.image_features.double() if tensors.image_features is not None else None,
    )
    masks = dropout_masks((N, setting.hvgs), 0.2, [torch.Generator().manual_seed(s) for s in (1, 2, 3)])

    weights, _ = stack_module_state(models)
    output = functional_call(models[0], weights, (tensors, masks))
    losses = loss_terms(output, tensors, 0.5).total(40)
    assert losses.shape == (3,)
    losses.sum().backward()
    for index, (model, mask) in enumerate(zip(models, masks, strict=True)):
        alone = model(tensors, mask)
        for name, values in alone._asdict().items():
            if values is not None:
                torch.testing.assert_close(getattr(output, name)[index], values, rtol=1e-10, atol=1e-12)
        loss = loss_terms(alone, tensors, 0.5).total(40)
        torch.testing.assert_close(losses[index], loss, rtol=1e-10, atol=0)
        loss.backward()
        for name, weight in model.named_parameters():
            batched = weights[name].grad
            if weight.grad is None:
                assert batched is None
            else:
                assert batched is not None
                torch.testing.assert_close(batched[index], weight.grad, rtol=1e-8, atol=1e-10)
