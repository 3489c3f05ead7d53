"""The fraction of the current data in categories that the reference does not have."""

from __future__ import annotations

from collections.abc import Mapping


def share(reference: Mapping[str, int], current: Mapping[str, int]) -> float:
    """The fraction, in [0, 1]. Raises ValueError if the current side is empty.

    >>> share({"card": 90, "cash": 10}, {"card": 60, "crypto": 40})
    0.4
    """
    total = sum(current.values())
    if total <= 0:
        raise ValueError("an empty sample has no shares")
    return sum(count for name, count in current.items() if not reference.get(name)) / total
