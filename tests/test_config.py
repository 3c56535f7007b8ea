from pathlib import Path

import pytest

from senca_ray.config import PrepareConfig, Setting, from_mapping, read_yaml
from senca_ray.errors import ProblemsError, SencaError


def test_defaults_are_the_papers() -> None:
    setting = Setting()
    assert (setting.hvgs, setting.embedding, setting.hidden, setting.neighbors) == (500, 128, 256, 4)
    assert (setting.mse_weight, setting.dropout, setting.learning_rate, setting.epochs) == (40, 0.2, 5e-4, 10)


def test_every_wrong_value_is_reported_at_once() -> None:
    with pytest.raises(ProblemsError) as caught:
        Setting(hvgs=0, dropout=1.0, temperature=0)
    assert {p.place for p in caught.value.problems} == {"hvgs", "dropout", "temperature"}


@pytest.mark.parametrize("kind", [Setting, PrepareConfig])
def test_unknown_fields_and_wrong_types_are_refused(kind: type) -> None:
    with pytest.raises(ProblemsError) as caught:
        from_mapping(kind, {"nonsense": 1})
    assert [p.place for p in caught.value.problems] == ["nonsense"]
    with pytest.raises(ProblemsError) as caught:
        from_mapping(Setting, {"hvgs": "many", "target": "both", "epochs": 1.5})
    assert {p.place for p in caught.value.problems} == {"hvgs", "target", "epochs"}


def test_a_value_out_of_range_is_refused_from_a_mapping_too() -> None:
    with pytest.raises(ProblemsError, match="dropout"):
        from_mapping(Setting, {"dropout": 2.0})


def test_the_same_setting_has_the_same_text() -> None:
    assert Setting(hvgs=300, epochs=5).to_json() == Setting(epochs=5, hvgs=300).to_json()
    assert Setting().to_json() != Setting(epochs=5).to_json()


@pytest.mark.parametrize("text", ["- 1\n", "a: [", "!!python/object:os.system {}", "\xff\xfe"])
def test_yaml_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SencaError, match=r"x\.yaml"):
        read_yaml(path)
