"""Checks whether SQLite's write-ahead log has acknowledged commits behind a damaged frame.

SQLite reads its log up to the first frame with a wrong checksum, and treats that as the end of what had been
written when the machine went down. But a commit is on disk before the next one begins. So if a frame is wrong and
a later commit is followed by more frames, the file was damaged afterwards, and SQLite would silently ignore
acknowledged commits. Whether the last commit in the log was torn or damaged, nobody can tell.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from actors.errors import Damaged

FRAMES_AT_ONCE = 2_000
_HEADER_BYTES, _FRAME_BYTES = 32, 24
_MAGIC = 0x377F0682
"""The lowest bit is set if checksums are computed over big-endian words."""
_NUMBER = np.dtype(">u4")
Words = npt.NDArray[np.uint32]


class Wrong(NamedTuple):
    """The range of damaged bytes, and how many commits from there on SQLite would ignore."""

    begin: int
    end: int
    commits: int


def need_whole(path: Path) -> None:
    """Raise Damaged for a log with acknowledged commits that SQLite would ignore."""
    wrong = find_damage(path)
    if wrong is not None:
        raise Damaged(
            f"{path} is damaged between bytes {wrong.begin} and {wrong.end - 1}, and what was committed after that"
            " is lost"
        )


def find_damage(path: Path) -> Wrong | None:
    """Where a log is damaged in front of acknowledged commits; None if it is not."""
    if not path.exists() or path.stat().st_size <= _HEADER_BYTES:
        return None
    header = np.fromfile(path, _NUMBER, _HEADER_BYTES // 4).astype(np.uint32)
    magic, page = int(header[0]), int(header[2])
    order = _NUMBER if magic & 1 else np.dtype("<u4")
    summed = np.fromfile(path, order, 6).astype(np.uint32)[None]
    if magic & ~1 != _MAGIC or (_sums(summed, np.zeros((1, 2), np.uint32)) != header[6:]).any():
        return Wrong(0, _HEADER_BYTES, _commits(path, page))
    heads, sums = _frames(path, page, order, header[6:])
    of_this_log = (heads[:, 2:4] == header[4:6]).all(axis=1)
    good = of_this_log & (sums == heads[:, 4:]).all(axis=1)
    if good.all():
        return None
    first, commits = int(np.argmin(good)), of_this_log & (heads[:, 1] > 0)
    if (commits[first:-1] & good[first + 1 :]).any():
        begin = _HEADER_BYTES + first * (_FRAME_BYTES + page)
        return Wrong(begin, begin + _FRAME_BYTES + page, int(commits[first:].sum()))
    return None


def _commits(path: Path, page: int) -> int:
    """Count the commits in a log whose header is damaged, as far as its frames can be recognised."""
    if not 512 <= page <= 65_536:
        return 0
    heads, _ = _frames(path, page, _NUMBER, np.zeros(2, np.uint32))
    return int(((heads[:, 2:4] == heads[:1, 2:4]).all(axis=1) & (heads[:, 1] > 0)).sum())


def _frames(path: Path, page: int, order: np.dtype[np.uint32], seed: Words) -> tuple[Words, Words]:
    """The head of each complete frame, and the checksums that it should have: uint32[n, 6], uint32[n, 2]."""
    size = _FRAME_BYTES + page
    heads, sums = [np.empty((0, 6), np.uint32)], [np.empty((0, 2), np.uint32)]
    for start in range(0, (path.stat().st_size - _HEADER_BYTES) // size, FRAMES_AT_ONCE):
        data = np.fromfile(path, np.uint8, FRAMES_AT_ONCE * size, offset=_HEADER_BYTES + start * size)
        frames = data[: len(data) // size * size].reshape(-1, size)
        heads.append(frames[:, :_FRAME_BYTES].copy().view(_NUMBER).astype(np.uint32))
        summed = np.concatenate([frames[:, :8], frames[:, _FRAME_BYTES:]], axis=1).view(order).astype(np.uint32)
        sums.append(_sums(summed, np.concatenate([seed[None], heads[-1][:-1, 4:]])))
        seed = heads[-1][-1, 4:]
    return np.concatenate(heads), np.concatenate(sums)


def _sums(words: Words, seeds: Words) -> Words:
    """SQLite's two checksums of each row: sums of its words weighted by Fibonacci numbers, modulo 2^32."""
    count = words.shape[1]
    weights = np.ones(count + 2, np.uint32)
    weights[0] = 0
    for place in range(2, count + 2):
        weights[place] = (int(weights[place - 1]) + int(weights[place - 2])) % 2**32
    last, before = weights[count:0:-1], weights[count - 1 :: -1]
    of_seeds = np.array([weights[count - 1 : count + 1], weights[count : count + 2]])
    sums: Words = np.stack([words @ before, words @ last], axis=1) + seeds @ of_seeds
    return sums
