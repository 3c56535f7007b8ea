from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image

from senca_ray.errors import SencaError
from senca_ray.model import image_encoder
from senca_ray.model.image_encoder import load_encoder

PATCHES = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)


def test_packaged_weights_recognise_a_photograph() -> None:
    """The packaged weights are ImageNet's, and the pixels reach them as they were trained with."""
    photograph = np.asarray(load_sample_image("flower.jpg"))[:427, 100:527]
    patch = torch.nn.functional.interpolate(
        torch.from_numpy(photograph.copy()).permute(2, 0, 1)[None].float(), size=(224, 224), mode="bilinear"
    )
    encoder = load_encoder("efficientnet-lite0")
    pooled = encoder.features(patch[0].permute(1, 2, 0).byte().numpy()[None])
    with torch.no_grad():
        logits = encoder.module.network._fc(torch.from_numpy(pooled))
    assert logits.argmax().item() == 985  # ImageNet's daisy


def test_features_do_not_depend_on_what_else_is_in_the_batch() -> None:
    encoder = load_encoder("efficientnet-lite0")
    together = encoder.features(PATCHES)
    assert together.shape == (3, 1280) and together.dtype == np.float32
    np.testing.assert_allclose(encoder.features(PATCHES[1:2])[0], together[1], rtol=1e-3, atol=1e-4)


def test_random_only_by_name_and_always_the_same() -> None:
    first, second = load_encoder("random"), load_encoder("random")
    assert "random" in first.name
    np.testing.assert_array_equal(first.features(PATCHES), second.features(PATCHES))


def test_resnet_from_a_weights_file(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    models = image_encoder._torchvision_models()
    torch.save(models.resnet18(weights=None).state_dict(), file)
    encoder = load_encoder("resnet18", file)
    assert encoder.features(PATCHES).shape == (3, 512)
    assert "sha256:" in encoder.name
    with pytest.raises(SencaError, match="not a resnet34 state dict"):
        load_encoder("resnet34", file)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x80\x02csomething\nbad\n."])
def test_a_wrong_weights_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(content)
    with pytest.raises(SencaError, match="cannot be read as a state dict"):
        load_encoder("resnet18", file)


def test_a_missing_network_names_the_alternatives(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    with pytest.raises(SencaError, match=r"--encoder-weights.*efficientnet-lite0.*random"):
        load_encoder("resnet18")


def test_unknown_encoder_lists_the_known() -> None:
    with pytest.raises(SencaError, match="'vgg' is unknown; expected one of efficientnet-lite0"):
        load_encoder("vgg")
