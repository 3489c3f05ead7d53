"""What statistics take on disk: compressed by window, given back when windows are merged, read as before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from actors.stats.state import decode, encode, packed
from actors.stats.summary import Accepted, Summary, merge_states, of_a_window, of_all, saved
from actors.stats.windows import DAY, FIVE_MINUTES, HOUR
from actors.storage.embedded.summaries import EmbeddedSummaries
from actors.storage.protocol import SummaryKey
from actors.timestamps import SECOND

START = 1_764_000_000 * SECOND // DAY * DAY


def a_window(start: int, width: int, count: int, summary: Summary | None = None) -> Summary:
    """One value of one digit behind the point each so many seconds, on time."""
    times = start + np.arange(count) * (width // count)
    values = np.round(np.sin(np.arange(count)) * 40, 1)
    found = summary or of_a_window(0)
    found.add(Accepted(times, times + 20_000, values, np.zeros(count, np.bool_)))
    return found


@pytest.mark.parametrize("count", [1, 5, 60, 500, 1_440, 20_000])
def test_a_summary_of_a_window_is_compressed_and_says_the_same(count: int) -> None:
    summary = a_window(START, DAY, count)
    kept = saved(summary)
    assert len(kept) < len(encode(summary)) / (1 if count < 100 else 2)
    assert encode(decode(kept, Summary)) == encode(summary)


def test_bytes_of_any_kind_and_length_come_back() -> None:
    random = np.random.default_rng(0)
    for length in (1, 7, 8, 9, 1_000):
        for data in (bytes(length), random.bytes(length)):
            text = encode(data)
            assert decode(packed(text), bytes) == data


def test_the_summary_of_a_whole_stream_which_every_checkpoint_changes_is_kept_as_it_is() -> None:
    summary = a_window(START, DAY, 5_000, of_all(0))
    assert saved(summary) == encode(summary)


def test_summaries_saved_before_they_were_compressed_merge_with_those_saved_since() -> None:
    one, two = a_window(START, HOUR, 30), a_window(START + HOUR, HOUR, 40)
    both = decode(merge_states([encode(one), saved(two)]), Summary)
    both.settle()
    assert (both.count, both.numbers.moments.max) == (70, 40.0)


def test_what_windows_took_that_were_merged_is_given_back(tmp_path: Path) -> None:
    monitored = EmbeddedSummaries(str(tmp_path / "monitor.db"))
    monitored.open()
    narrow = range(START, START + DAY, FIVE_MINUTES)
    parts = {SummaryKey("user.x.v1", 0, FIVE_MINUTES, at): saved(a_window(at, FIVE_MINUTES, 300)) for at in narrow}
    monitored.save(1, parts, merge_states)
    (before,) = monitored.rows("PRAGMA page_count")[0]
    for _ in range(3):
        monitored.coarsen(START + 30 * DAY, merge_states)
    ((after,), ((count, width),)) = (
        monitored.rows("PRAGMA page_count")[0],
        monitored.rows("SELECT count(*), max(width) FROM windows"),
    )
    monitored.close()
    assert (count, width) == (1, DAY)
    assert after < before / 10
