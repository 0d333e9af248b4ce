"""How many threads work: where their number would show in a result, one."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from threadpoolctl import threadpool_limits

P = ParamSpec("P")
R = TypeVar("R")


def one_thread(call: Callable[P, R]) -> Callable[P, R]:
    """Products of matrices on one thread: how BLAS shares one out decides its last digits (law 7)."""

    @wraps(call)
    def limited(*args: P.args, **named: P.kwargs) -> R:
        with threadpool_limits(1, "blas"):
            return call(*args, **named)

    return limited
