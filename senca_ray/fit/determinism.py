"""The same numbers every time: on a CPU by one thread, on a GPU by algorithms that sum in one order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# cuBLAS reads it at the first product of a process.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread: the number of threads changes the order of sums, and so the result.

    Usable as a decorator, `@one_thread()`, of everything that computes with a network.
    """
    # A limit set before torch was imported does not reach it, and methods import it only when they run.
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def deterministic(device: str) -> Iterator[None]:
    """On a GPU take only algorithms that give the same result every time; what has none raises.

    Most that train a graph add up in whatever order the card's threads end. On a CPU, one thread does it.
    """
    if device == "cpu":
        yield
        return
    import torch

    # A module of properties, which no type checker sees. It would also fill all memory before it is used:
    # a kernel more for every tensor.
    memory: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        memory.fill_uninitialized_memory = before[1]
