from __future__ import annotations

import pytest

from senca_ray.errors import SencaError
from senca_ray.fit.choices import KPolicy, parse_k_policy


def test_policies_are_read() -> None:
    assert parse_k_policy("labels") == KPolicy("labels")
    assert parse_k_policy("auto") == KPolicy("auto")
    assert parse_k_policy("fixed:12") == KPolicy("fixed", 12)


@pytest.mark.parametrize(
    "text",
    ["", "label", "fixed", "fixed:", "fixed:0", "fixed:-3", "fixed:2.5", "fixed:²", "fixed:3:4", "AUTO"],
)
def test_a_wrong_policy_is_answered_with_the_right_ones(text: str) -> None:
    with pytest.raises(SencaError, match=r"found; expected 'labels'.*'fixed:N'.*fixed:6.*'auto'"):
        parse_k_policy(text)
