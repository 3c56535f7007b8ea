"""How many threads a fit takes: one, whoever runs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


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
