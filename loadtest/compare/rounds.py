"""Rounds in turns (ours, theirs, ours, theirs), and the check that both answer the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import trio

from loadtest.compare.comparison import Comparison, comparison, sample, unfinished
from loadtest.compare.data import Data, write_file
from loadtest.compare.work import (
    Given,
    Load,
    Peer,
    Serve,
    ServeRows,
    Timed,
    TrainingSet,
    Values,
    View,
    Workload,
    Write,
)
from loadtest.machine.processes import at_rest, processor_time

REST_PATIENCE_SECONDS = 5.0
ROUNDS_AT_LEAST = 3
PAIR_SECONDS = 120.0
"""The time after which no further round of a workload with a peer begins."""
CHECKED_ENTITIES = 20


class Differs(RuntimeError):
    """The peer's values are not Timewell's: the two did not do the same work."""


class Contest(NamedTuple):
    """Timewell and a peer."""

    ours: Peer
    peer: Peer
    data: Data
    limit_seconds: float
    """A peer that takes longer for a round is stopped and started again."""
    tell: Callable[[str], None]
    file: Path = Path("rows.parquet")
    """Where the file to be loaded is written."""

    async def compare(self, workload: Workload) -> Comparison:
        """Rounds in turns after one to warm up, then the check that both answer the same."""
        mine: list[Timed] = []
        theirs: list[Timed] = []
        try:
            await self._prepare(workload)
            await self._rounds(workload, mine, theirs)
            checked, left_out = await self._check(workload, mine[-1], theirs[-1])
        except trio.TooSlowError:
            await self._again()
            return unfinished(workload, self.peer.name, mine, self.limit_seconds)
        except (RuntimeError, OSError) as failure:
            await self._again()
            found = comparison(workload, self.peer.name, mine[1:], theirs[1:])
            found.failure = str(failure)
            return found
        found = comparison(workload, self.peer.name, mine[1:], theirs[1:])
        found.checked_values, found.left_out = checked, left_out
        return found

    async def _prepare(self, workload: Workload) -> None:
        if isinstance(workload.work, Load):
            write_file(self.file, self.data.share(workload.work.rows))
        elif isinstance(workload.work, TrainingSet | ServeRows):
            for peer in (self.ours, self.peer):
                await peer.prepare(workload.work, self.data)

    async def _rounds(self, workload: Workload, mine: list[Timed], theirs: list[Timed]) -> None:
        began = time.perf_counter()
        for number in range(self.data.scale.rounds + 1):
            if number > ROUNDS_AT_LEAST and time.perf_counter() - began > PAIR_SECONDS:
                return
            given = self._given(workload, number)
            mine.append(await self._round(workload, self.ours, given))
            with trio.fail_after(self.limit_seconds):
                theirs.append(await self._round(workload, self.peer, given))
            self.tell(
                _line(workload, self.peer.name, number, sample(workload, mine[-1]), sample(workload, theirs[-1]))
            )

    async def _round(self, workload: Workload, peer: Peer, given: Given) -> Timed:
        if self.data.scale.rests:
            await at_rest([*self.ours.processes(), *self.peer.processes()], REST_PATIENCE_SECONDS)
        processes = peer.processes()
        before = processor_time(processes)
        done = await peer.do(workload.work, given)
        if done.processor_seconds is not None:
            return done
        return done._replace(processor_seconds=processor_time(processes) - before)

    def _given(self, workload: Workload, number: int) -> Given:
        seconds, work = self.data.scale.round_seconds, workload.work
        if isinstance(work, Serve):
            return Given(seconds, asked=self.data.asked(work, number))
        if isinstance(work, Write):
            return Given(seconds, batches=self.data.batches(work))
        if isinstance(work, TrainingSet):
            return Given(seconds, rows=self.data.rows(work))
        return Given(seconds, file=self.file)

    async def _again(self) -> None:
        """Restart the peer, which may still be working on an abandoned round."""
        await self.peer.stop()
        await self.peer.start()

    async def _check(self, workload: Workload, ours: Timed, theirs: Timed) -> tuple[int, int]:
        """How many values were compared, and how many rows were left out. Raises Differs."""
        work = workload.work
        if isinstance(work, Load):
            return 0, 0
        if isinstance(work, TrainingSet):
            return same_columns(ours.columns or {}, theirs.columns or {})
        if isinstance(work, Write):
            last = self.data.batch(work)
            for peer in (self.ours, self.peer):
                await peer.do(work, Given(0.0, batches=[last]))
            return await self._same(work.view, last.entities[:CHECKED_ENTITIES]), 0
        assert isinstance(work, Serve)
        return await self._same(work.view, self.data.entities[:CHECKED_ENTITIES]), 0

    async def _same(self, view: View, entities: Sequence[str]) -> int:
        ours, theirs = [await peer.read(view, entities) for peer in (self.ours, self.peer)]
        if ours != theirs or any(value is None for row in ours for value in row):
            raise Differs(f"{self.peer.name} has other values of {view.name} than Timewell")
        return len(ours) * view.width


def same_columns(ours: Mapping[str, Values], theirs: Mapping[str, Values]) -> tuple[int, int]:
    """How many values are in both, and how many rows only in ours, because some feature has no value for them.

    Raises Differs for any other difference, missing values included.
    """
    if len(ours) < 2 or ours.keys() != theirs.keys():
        raise Differs("the training sets have other columns")
    there = np.isin(ours["n"], theirs["n"])
    for name, column in ours.items():
        if not np.array_equal(column[there], theirs[name], equal_nan=True):
            raise Differs(f"the training sets have other values of {name}")
    features = np.array([column for name, column in ours.items() if name != "n"])
    if not np.isnan(features[:, ~there]).any(axis=0).all():
        raise Differs("the peer has left out rows that have all values")
    if not there.any() or np.isnan(features[:, there]).all():
        raise Differs("the training sets have no values")
    return features[:, there].size, int((~there).sum())


def _line(workload: Workload, peer: str, number: int, ours: float, theirs: float) -> str:
    what = f"round {number}" if number else "warming up"
    return f"{workload.name} beside {peer}, {what}: {ours:,.4g} and {theirs:,.4g} {workload.unit}"
