"""Models of timm and CONCH, from local checkpoints: small ones, built as the large are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from senca_ray.errors import SencaError
from senca_ray.model.encoders.conch import ConchVision, load_conch
from senca_ray.model.encoders.timm_models import build, timm_package
from senca_ray.model.image_encoder import load_encoder

PATCHES = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), dtype=np.uint8)
VIT = "test_vit"
TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
LIKE_VIRCHOW = TINY | {
    "init_values": 1e-5,
    "reg_tokens": 4,
    "global_pool": "",
    "mlp_layer": "SwiGLUPacked",
    "act_layer": "silu",
}
DOCS = Path(__file__).parents[2] / "docs" / "encoders.md"


def checkpoint(
    folder: Path, arguments: dict[str, Any], config: dict[str, Any] | None = None
) -> tuple[Path, Any]:
    """A file of weights drawn at random, with its config.json, and the network that they are of."""
    torch.manual_seed(0)
    layers = {"mlp_layer": timm_package().layers.SwiGLUPacked} if "mlp_layer" in arguments else {}
    network = timm_package().create_model(VIT, **arguments | layers | {"num_classes": 7}).eval()
    folder.mkdir(exist_ok=True)
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    about = {"architecture": VIT, "num_classes": 7, "model_args": arguments, "pretrained_cfg": {}}
    (folder / "config.json").write_text(json.dumps(about | (config or {})))
    return folder / "pytorch_model.bin", network


def images(mean: tuple[float, ...], sd: tuple[float, ...]) -> torch.Tensor:
    pixels = torch.from_numpy(PATCHES).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(sd).view(1, 3, 1, 1)


def test_a_checkpoint_beside_its_config_is_what_timm_makes_of_it(tmp_path: Path) -> None:
    """Tokens are pooled as Virchow's makers do: the class token, and the mean of the patch tokens."""
    mean, sd = (0.7, 0.6, 0.5), (0.2, 0.3, 0.4)
    file, network = checkpoint(tmp_path, LIKE_VIRCHOW, {"pretrained_cfg": {"mean": mean, "std": sd}})
    encoder = load_encoder(f"timm:{VIT}", file)
    with torch.inference_mode():
        tokens = network.forward_features(images(mean, sd))
    assert tokens.shape == (3, 1 + 4 + 16, 24)
    expected = torch.cat([tokens[:, 0], tokens[:, 5:].mean(dim=1)], dim=1)
    np.testing.assert_allclose(encoder.features(PATCHES), expected.numpy(), atol=1e-5)
    assert re.fullmatch(rf"timm:{VIT} \(weights sha256:[0-9a-f]{{12}}\)", encoder.name)


def test_patches_are_resized_to_what_the_network_was_trained_with(tmp_path: Path) -> None:
    file, _ = checkpoint(tmp_path, TINY)
    encoder = load_encoder(f"timm:{VIT}", file)
    assert encoder.network.pixels == 32
    even = np.full((1, 32, 32, 3), 90, dtype=np.uint8)
    large = np.full((1, 50, 50, 3), 90, dtype=np.uint8)
    np.testing.assert_allclose(encoder.features(large), encoder.features(even), atol=1e-5)
    assert encoder.features(even).shape == (1, 24), "without the classifier of seven classes"


def test_mixed_precision_is_near_and_not_the_same(tmp_path: Path) -> None:
    file, _ = checkpoint(tmp_path, TINY)
    exact, mixed = (load_encoder(f"timm:{VIT}", file, precision=p) for p in ("float32", "bfloat16"))
    assert exact.identity == mixed.identity
    found, near = exact.features(PATCHES), mixed.features(PATCHES)
    assert near.dtype == np.float32 and not np.array_equal(found, near)
    assert np.corrcoef(found.ravel(), near.ravel())[0, 1] > 0.99


def test_two_checkpoints_of_one_architecture_have_two_names(tmp_path: Path) -> None:
    file, _ = checkpoint(tmp_path, TINY)
    ours, plain = load_encoder(f"timm:{VIT}.ours", file), load_encoder(f"timm:{VIT}", file)
    assert ours.name.startswith(f"timm:{VIT}.ours (weights") and ours.identity == plain.identity
    other, _ = checkpoint(tmp_path / "b", TINY, {"pretrained_cfg": {"mean": [0.1, 0.1, 0.1]}})
    assert load_encoder(f"timm:{VIT}", other).identity != plain.identity, "it sees other images"


def test_a_config_of_the_older_kind_is_read_too(tmp_path: Path) -> None:
    """Then mean and sd stand beside the architecture."""
    file, _ = checkpoint(tmp_path, {})
    (tmp_path / "config.json").write_text(json.dumps({"architecture": VIT, "mean": [0.1, 0.2, 0.3]}))
    assert load_encoder(f"timm:{VIT}", file).network.mean == (0.1, 0.2, 0.3)


def test_a_network_built_otherwise_points_to_the_arguments(tmp_path: Path) -> None:
    file, _ = checkpoint(tmp_path, TINY | {"init_values": 1e-5})
    (tmp_path / "config.json").write_text(json.dumps({"architecture": VIT, "model_args": TINY}))
    with pytest.raises(
        SencaError, match=r"4 unexpected: blocks\.0\.ls1\.gamma.* model_args of .*docs/encoders\.md"
    ):
        load_encoder(f"timm:{VIT}", file)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[1]", "expected an object with architecture"),
        ('{"model_type": "vit"}', "another library"),
        ('{"architecture": "test_vit", "model_args": [1]}', "expected an object"),
        ('{"architecture": "vit_base_patch16_224"}', "use --encoder timm:vit_base_patch16_224"),
        ('{"architecture": "test_vit", "model_args": {"checkpoint_path": "x"}}', "loads anything"),
        ('{"architecture": "test_vit", "model_args": {"mlp_layer": "os"}}', "a layer of timm.layers"),
        ('{"architecture": "test_vit", "model_args": {"heads": 2}}', "cannot be built with"),
        ('{"architecture": "test_vit", "pretrained_cfg": {"mean": [1]}}', "three numbers"),
    ],
)
def test_what_is_wrong_with_a_config_is_told(tmp_path: Path, config: str, message: str) -> None:
    arguments = TINY if "pretrained_cfg" not in config else {}
    file, _ = checkpoint(tmp_path, arguments)
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(SencaError, match=message) as raised:
        load_encoder(f"timm:{VIT}", file)
    assert "config.json" in str(raised.value)


def test_gated_repositories_are_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*args: object, **kwargs: object) -> None:
        raise AssertionError("a download")

    monkeypatch.setattr(timm_package(), "create_model", asked)
    for name in ("timm:hf-hub:MahmoodLab/UNI", "timm:MahmoodLab/UNI", "timm:local-dir:uni"):
        with pytest.raises(SencaError, match="download the checkpoint yourself"):
            load_encoder(name)
    with pytest.raises(SencaError, match=r"accepted its licence.*conch=FILE"):
        load_encoder("conch")
    with pytest.raises(SencaError, match=r"timm has weights resnet18\.a1_in1k.*--encoder-weights"):
        load_encoder("timm:resnet18.mine")
    with pytest.raises(SencaError, match="timm has no weights of it"):
        load_encoder("timm:vit_gigantic_patch14_224")


def test_weights_that_cannot_be_downloaded_name_the_alternatives(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("cannot find the requested files")

    monkeypatch.setattr(timm_package(), "create_model", unreachable)
    with pytest.raises(SencaError, match=r"cannot find.*--encoder-weights.*efficientnet-lite0"):
        load_encoder("timm:resnet18.a1_in1k")


def test_conch_is_read_from_its_own_names_and_pools_by_one_query(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = ConchVision(pixels=32, width=24, depth=1, features=16).eval()
    torch.nn.init.normal_(whole.attn_pool_contrast.query)
    state = {f"visual.{name}": tensor for name, tensor in whole.state_dict().items()}
    others = {"text.cls_emb": torch.zeros(3), "logit_scale": torch.zeros(())}
    unused = {
        "visual.proj_contrast": torch.zeros(16, 16),
        "visual.attn_pool_caption.query": torch.zeros(2, 16),
    }
    torch.save(state | others | unused, tmp_path / "pytorch_model.bin")
    read = ConchVision(pixels=32, width=24, depth=1, features=16).eval()
    load_conch(read, tmp_path / "pytorch_model.bin")
    seen = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        np.testing.assert_array_equal(read(seen), whole(seen))
        pool = whole.attn_pool_contrast
        tokens = pool.ln_k(whole.trunk.forward_features(seen))
        query, key, value = (
            torch.nn.functional.linear(given, weight, bias).unflatten(-1, (8, 2)).transpose(-2, -3)
            for given, weight, bias in zip(
                (pool.ln_q(pool.query)[None], tokens, tokens),
                (pool.attn.q_proj_weight, pool.attn.k_proj_weight, pool.attn.v_proj_weight),
                pool.attn.in_proj_bias.chunk(3),
                strict=True,
            )
        )
        weights = (query @ key.transpose(-1, -2) / 2**0.5).softmax(-1)
        pooled = pool.attn.out_proj((weights @ value).transpose(-2, -3).flatten(-2))[:, 0]
        np.testing.assert_allclose(whole(seen), whole.ln_contrast(pooled), atol=1e-5)
    torch.save({"visual.head.weight": torch.zeros(2)}, tmp_path / "other.bin")
    with pytest.raises(SencaError, match="not the weights of CONCH's image side"):
        load_conch(read, tmp_path / "other.bin")


def test_conch_has_the_shapes_of_the_published_checkpoint() -> None:
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in ConchVision().state_dict().items()}
    expected = {
        "trunk.pos_embed": (1, 785, 768),
        "trunk.blocks.11.mlp.fc1.weight": (3072, 768),
        "attn_pool_contrast.query": (1, 512),
        "attn_pool_contrast.attn.k_proj_weight": (512, 768),
        "ln_contrast.weight": (512,),
    }
    assert {name: shapes[name] for name in expected} == expected


def documented() -> list[Any]:
    """Every config.json of the documentation, with what its line says of the network."""
    text = DOCS.read_text(encoding="utf-8")
    found = re.findall(r"\((\d+) million parameters, (\d+) features\).*?```json\n(.*?)```", text, re.DOTALL)
    return [pytest.param(int(m), int(f), json.loads(config), id=f"{m} M") for m, f, config in found]


@pytest.mark.parametrize(("millions", "features", "config"), documented())
def test_documented_configs_build_the_published_networks(
    millions: int, features: int, config: dict[str, Any]
) -> None:
    with torch.device("meta"):
        network = build(config["architecture"], config["model_args"], Path("config.json"))
    assert round(sum(p.numel() for p in network.parameters()) / 1e6) == millions
    tokens = config["model_args"].get("global_pool") == ""
    assert network.num_features * (2 if tokens else 1) == features
    assert config["pretrained_cfg"]["input_size"] == [3, 224, 224]
