"""The C library's allocator: what a request frees is kept for the next one, what a checkpoint frees goes back.

A batch of 10,000 values takes and frees a few megabytes. By its defaults glibc gives blocks of that size back to
the system at once, and each page that is taken again is a fault: a third of the processor time of such a batch.
Where the C library is another, both calls do nothing.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""As <malloc.h> numbers them."""
KEPT_FREE_BYTES = 64 * 1024 * 1024
TAKEN_AT_ONCE_BYTES = 1024 * 1024
LARGEST_KEPT_BYTES = 16 * 1024 * 1024
"""Larger blocks come from the system and go back there."""


def keep_for_reuse() -> None:
    """Have the allocator keep some of what is freed. For the start of a process."""
    with suppress(AttributeError, OSError):
        tell = ctypes.CDLL(None).mallopt
        tell(_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)
        tell(_TRIM_THRESHOLD, KEPT_FREE_BYTES)
        tell(_TOP_PAD, TAKEN_AT_ONCE_BYTES)


def give_back() -> None:
    """Give all free memory back to the system."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
