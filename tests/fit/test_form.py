import dataclasses

import pytest

from senca_ray.config import Setting
from senca_ray.fit.form import LARGE_FROM, form_of


def test_the_number_of_spots_decides_unless_the_setting_does() -> None:
    auto = Setting()
    assert [form_of(auto, n) for n in (1, LARGE_FROM - 1, LARGE_FROM)] == ["exact", "exact", "large"]
    assert [form_of(Setting(form="large"), n) for n in (1, LARGE_FROM)] == ["large", "large"]
    assert [form_of(dataclasses.replace(auto, form="exact"), 10**6)] == ["exact"]


def test_no_section_of_a_visium_slide_changes_its_form() -> None:
    assert form_of(Setting(), 4992) == "exact"


def test_a_form_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="form"):
        Setting(form="small")  # type: ignore[arg-type]
