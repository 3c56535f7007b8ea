import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image

from senca_ray.errors import ProblemsError, SencaError
from senca_ray.model.encoders.batching import Batches
from senca_ray.model.encoders.files import weights_by_encoder, weights_digest
from senca_ray.model.encoders.torchvision_models import resnets, torchvision_models
from senca_ray.model.image_encoder import load_encoder

PATCHES = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def resnet18() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    state: dict[str, torch.Tensor] = torchvision_models().resnet18(weights=None).state_dict()
    return state


def test_packaged_weights_recognise_a_photograph() -> None:
    """The packaged weights are ImageNet's, and the pixels reach them as they were trained with."""
    photograph = np.asarray(load_sample_image("flower.jpg"))[:427, 100:527]
    patch = torch.nn.functional.interpolate(
        torch.from_numpy(photograph.copy()).permute(2, 0, 1)[None].float(), size=(224, 224), mode="bilinear"
    )
    encoder = load_encoder("efficientnet-lite0")
    pooled = encoder.features(patch[0].permute(1, 2, 0).byte().numpy()[None])
    with torch.no_grad():
        logits = encoder.network.module.network._fc(torch.from_numpy(pooled))
    assert logits.argmax().item() == 985  # ImageNet's daisy


def test_features_do_not_depend_on_what_else_is_in_the_batch() -> None:
    encoder = load_encoder("efficientnet-lite0")
    together = encoder.features(PATCHES)
    assert together.shape == (3, 1280) and together.dtype == np.float32
    np.testing.assert_allclose(encoder.features(PATCHES[1:2])[0], together[1], rtol=1e-3, atol=1e-4)


def test_the_packaged_encoder_needs_neither_torchvision_nor_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("torchvision", "timm", "safetensors", "huggingface_hub"):
        monkeypatch.setitem(sys.modules, package, None)
    assert load_encoder("efficientnet-lite0").features(PATCHES[:1]).shape == (1, 1280)


def test_random_only_by_name_and_always_the_same() -> None:
    first, second = load_encoder("random"), load_encoder("random")
    assert "random" in first.name and first.identity == second.identity
    small = PATCHES[:1, :32, :32]
    np.testing.assert_array_equal(first.features(small), second.features(small))


def test_any_resnet_of_torchvision() -> None:
    depths = {f"resnet{depth}" for depth in (18, 34, 50, 101, 152)}
    others = {"resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2"}
    assert depths | others <= set(resnets())
    assert not {"vgg11", "densenet121", "fcn_resnet50"} & set(resnets())


def test_weights_files_of_every_kind_are_the_same_encoder(
    tmp_path: Path, resnet18: dict[str, torch.Tensor]
) -> None:
    """Bare, inside a training program's checkpoint, in safetensors; with a classifier or without."""
    torch.save(resnet18, tmp_path / "bare.pth")
    wrapped = {f"module.{name}": tensor for name, tensor in resnet18.items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, tmp_path / "trained.bin")
    body = {name: tensor.contiguous() for name, tensor in resnet18.items() if not name.startswith("fc.")}
    save_file(body, tmp_path / "model.safetensors")
    files = [tmp_path / name for name in ("bare.pth", "trained.bin", "model.safetensors")]
    encoders = [load_encoder("resnet18", file) for file in files]
    assert len({encoder.identity for encoder in encoders}) == 1
    assert encoders[2].features(PATCHES[:1]).shape == (1, 512)
    assert len({encoder.name for encoder in encoders}) == 3, "tables tell the file by its digest"
    assert all(name.startswith("resnet18 (weights sha256:") for name in (e.name for e in encoders))


def test_weights_of_another_architecture_are_summarised(
    tmp_path: Path, resnet18: dict[str, torch.Tensor]
) -> None:
    file = tmp_path / "weights.pth"
    torch.save({name.replace("layer1", "stage1"): tensor for name, tensor in resnet18.items()}, file)
    with pytest.raises(SencaError) as raised:
        load_encoder("resnet18", file)
    message = str(raised.value)
    assert "not the weights of resnet18: of its 120 tensors 24 missing: layer1.0.conv1.weight" in message
    assert "24 unexpected: stage1.0.conv1.weight" in message and "and 21 more" in message
    assert len(message) < 600
    torch.save(resnet18 | {"conv1.weight": torch.zeros(64, 4, 7, 7)}, file)
    with pytest.raises(SencaError, match=r"1 of another shape: conv1\.weight \(64, 4, 7, 7\) instead of"):
        load_encoder("resnet18", file)
    with pytest.raises(SencaError, match="brings its weights"):
        load_encoder("efficientnet-lite0", file)


@pytest.mark.parametrize("name", ["weights.pth", "weights.bin", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a model", b"\x80\x02csomething\nbad\n.", b"\xff" * 64])
def test_a_wrong_weights_file_is_an_error(tmp_path: Path, name: str, content: bytes) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(SencaError, match="cannot be read as a state dict"):
        load_encoder("resnet18", file)


def test_a_checkpoint_that_would_run_code_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"state_dict": Path("/")}, file)  # any object but tensors is code to call
    with pytest.raises(SencaError, match="cannot be read as a state dict"):
        load_encoder("resnet18", file)
    torch.save({"epoch": 3}, file)
    with pytest.raises(SencaError, match="found dict without any"):
        load_encoder("resnet18", file)


def test_a_missing_network_names_the_alternatives(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    with pytest.raises(
        SencaError, match=r"https://.*resnet18.*--encoder-weights.*efficientnet-lite0.*random"
    ):
        load_encoder("resnet18")


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("vgg", "close to it: timm:vgg"),
        ("resnet81", "close to it: resnet18"),
        ("efficientnet_lite0", "close to it: efficientnet-lite0"),
        ("vit_large_patch16_224", "close to it: timm:vit_large_patch16_224"),
        ("timm:vit_lage_patch16_224", "has no model 'vit_lage_patch16_224'; close to it: timm:vit_large"),
        ("nothing like it at all", "expected efficientnet-lite0, a ResNet of torchvision"),
    ],
)
def test_an_unknown_encoder_lists_what_is_close(name: str, close: str) -> None:
    with pytest.raises(SencaError) as raised:
        load_encoder(name)
    assert close in str(raised.value)


# --- How many patches together ----------------------------------------------------------------------


def memory_for(limit: int) -> Callable[[np.ndarray], np.ndarray]:
    def encode(batch: np.ndarray) -> np.ndarray:
        if len(batch) > limit:
            raise torch.OutOfMemoryError(f"{len(batch)} patches")
        sizes.append(len(batch))
        return batch.astype(np.float32)

    sizes: list[int] = []
    encode.sizes = sizes  # type: ignore[attr-defined]
    return encode


@settings(max_examples=60, deadline=None)
@given(limit=st.integers(1, 3000), calls=st.lists(st.integers(1, 2500), min_size=1, max_size=4))
def test_a_gpu_is_filled_and_every_patch_encoded_once_in_order(limit: int, calls: list[int]) -> None:
    batches, encode = Batches("cuda"), memory_for(limit)
    for count in calls:
        patches = np.arange(count)[:, None]
        np.testing.assert_array_equal(batches.run(patches, encode), patches)
    encode = memory_for(limit)
    batches.run(np.arange(20_000)[:, None], encode)
    sizes = encode.sizes  # type: ignore[attr-defined]
    assert max(sizes) >= min(limit / 2, 1024), "half of what fits is used, or all that is of use"
    again = memory_for(limit)
    batches.run(np.arange(4096)[:, None], again)
    assert again.sizes[0] == max(sizes), "what was found is remembered"  # type: ignore[attr-defined]


def test_on_a_cpu_the_batch_is_always_the_same() -> None:
    encode = memory_for(10_000)
    batches = Batches("cpu")
    batches.run(np.zeros((100, 1)), encode)
    batches.run(np.zeros((64, 1)), encode)
    assert encode.sizes == [32, 32, 32, 4, 32, 32]  # type: ignore[attr-defined]


def test_memory_for_not_even_one_patch_says_what_to_do() -> None:
    with pytest.raises(SencaError, match=r"too little for one patch.*precision=bfloat16"):
        Batches("cuda").run(np.zeros((100, 1)), memory_for(0))


# --- Files of weights as they are given --------------------------------------------------------------


def test_weights_are_given_alone_by_name_or_as_a_mapping(tmp_path: Path) -> None:
    one, odd = tmp_path / "a.pth", tmp_path / "uni=v1.pth"
    for file in (one, odd):
        file.write_bytes(b"x")
    two = ("resnet18", "timm:vit")
    assert weights_by_encoder(None, two, "--encoder-weights") == {}
    assert weights_by_encoder([str(one)], ["resnet18"], "-") == {"resnet18": one}
    assert weights_by_encoder([str(odd)], ["resnet18"], "-") == {"resnet18": odd}
    assert weights_by_encoder(one, ["resnet18"], "-") == {"resnet18": one}
    both = weights_by_encoder([f"timm:vit={odd}", f"resnet18={one}"], two, "-")
    assert both == {"timm:vit": odd, "resnet18": one} == weights_by_encoder(both, two, "-")


def test_everything_wrong_with_given_weights_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "a.pth"
    file.write_bytes(b"x")
    words = [str(file), f"resnet81={file}", f"resnet18={file}", f"resnet18={file}", "timm:vit=nowhere.pth"]
    with pytest.raises(ProblemsError) as raised:
        weights_by_encoder(words, ("resnet18", "timm:vit"), "--encoder-weights")
    messages = [problem.message for problem in raised.value.problems]
    assert len(messages) == 4 and all(p.place == "--encoder-weights" for p in raised.value.problems)
    for part in ("expected NAME=FILE", "'resnet81' found", "two files for resnet18", "no such file"):
        assert any(part in message for message in messages), part


def test_the_digest_of_weights_follows_the_bytes_and_the_config_never_the_path(tmp_path: Path) -> None:
    digests = set()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        file = tmp_path / folder / f"{folder}.bin"
        file.write_bytes(b"weights")
        digests.add(weights_digest(file))
    assert len(digests) == 1
    (file.parent / "config.json").write_text("{}")
    digests.add(weights_digest(file))
    file.write_bytes(b"others!")
    digests.add(weights_digest(file))
    assert len(digests) == 3
