from __future__ import annotations

import os

import pytest
import torch
from torch.utils import deterministic as empty

from senca_ray.fit.determinism import deterministic, one_thread


def test_one_thread_while_it_lasts() -> None:
    torch.set_num_threads(2)
    with pytest.raises(KeyError), one_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


def test_on_a_gpu_only_deterministic_algorithms_are_taken_while_it_lasts() -> None:
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in (":4096:8", ":16:8")
    before = empty.fill_uninitialized_memory
    with pytest.raises(KeyError), deterministic("cuda"):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert not empty.fill_uninitialized_memory
        raise KeyError
    assert not torch.are_deterministic_algorithms_enabled()
    assert empty.fill_uninitialized_memory == before
    with deterministic("cpu"):
        assert not torch.are_deterministic_algorithms_enabled()
