"""Who is drawn, where not all can be looked at: decided by md5 of ids, so that a customer more, or less, changes nobody else's fate."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Hashes = NDArray[np.uint64]


def hashes(texts: Iterable[object], salt: str) -> Hashes:
    """The first 64 bits of md5 of each text, salted.

    >>> int(hashes(["a"], "pairs")[0]) == int.from_bytes(hashlib.md5(b"pairs:a").digest()[:8], "big")
    True
    """
    digests = (hashlib.md5(f"{salt}:{text}".encode(), usedforsecurity=False).digest() for text in texts)
    return np.array([int.from_bytes(digest[:8], "big") for digest in digests], np.uint64)


def mixed(left: Hashes, right: NDArray[np.integer] | int) -> Hashes:
    """One hash of two, by the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    with np.errstate(over="ignore"):
        value = left + np.uint64(0x9E3779B97F4A7C15) * (np.asarray(right, np.uint64) | np.uint64(1))
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(value ^ (value >> np.uint64(31)))


def uniform(values: Hashes) -> NDArray[np.float64]:
    """Hashes as numbers in [0, 1)."""
    return np.asarray((values >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def snapshot_hashes(customer: ArrayLike, cutoff: ArrayLike, salt: str) -> Hashes:
    """A hash of each customer at each cutoff; both shape (rows,), cutoffs in integer microseconds.

    >>> one, other, again = snapshot_hashes(["a", "a", "a"], [0, 86_400_000_000, 0], "rows").tolist()
    >>> one == again, one == other
    (True, False)
    """
    distinct, place = np.unique(np.asarray(customer).astype(str), return_inverse=True)
    # The mix leaves out the last bit: instants a microsecond apart must differ.
    return mixed(hashes(distinct.tolist(), salt)[place], 2 * np.asarray(cutoff, np.int64).astype(np.uint64))


def lowest(values: Hashes, most: int) -> NDArray[np.intp]:
    """The places of the `most` smallest hashes, ascending: of whoever joins later, nobody but the largest is replaced.

    >>> lowest(np.array([5, 1, 9, 3], np.uint64), 2).tolist()
    [1, 3]
    """
    if len(values) <= most:
        return np.arange(len(values))
    return np.sort(np.argsort(values, kind="stable")[:most])
