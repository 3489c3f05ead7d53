"""The categories of both sides in a common order."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow.compute as pc

from actors.types.patterns import arrow_texts

SORTED_AT_ONCE = 20_000
"""More names than this are sorted by Arrow: Python's `sorted` holds the GIL, for half a second per million."""


def names_of(reference: Mapping[str, int], current: Mapping[str, int]) -> list[str]:
    """The categories that occur on either side, sorted.

    >>> names_of({"card": 9, "cash": 0}, {"crypto": 4, "card": 6})
    ['card', 'crypto']
    """
    names = [name for name, count in reference.items() if count + current.get(name, 0) > 0]
    names += [name for name, count in current.items() if count > 0 and name not in reference]
    if len(names) <= SORTED_AT_ONCE:
        return sorted(names)
    return [names[place] for place in pc.sort_indices(arrow_texts(names)).to_numpy()]
