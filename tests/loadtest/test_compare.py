"""The results of rounds, the requests, and the tables."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

from loadtest.compare import data as given
from loadtest.compare.command import _asked, add_arguments, run
from loadtest.compare.comparison import Comparison, Side, comparison, unfinished
from loadtest.compare.data import QUICK, WRITTEN_FROM, Data, arrow_of, batch_table, columns_of
from loadtest.compare.peers.lineup import PEERS, chosen
from loadtest.compare.report import (
    Document,
    facts_here,
    markdown,
    rows,
)
from loadtest.compare.rounds import Differs, same_columns
from loadtest.compare.work import BATCHED, PAIR, SEPARATE, TOGETHER, WIDE, WORKLOADS, Serve, Timed, Write
from loadtest.machine.facts import keep
from loadtest.machine.tables import table

SERVE, BATCH, TRAINING = (WORKLOADS[name] for name in ("serve-1x2", "write-100", "training-10000"))


def document(*comparisons: Comparison) -> Document:
    return Document(facts_here(), False, {}, {}, {"Feast": {"feast": "1"}}, {}, list(comparisons))


# Ratios


def test_a_rate_is_better_when_it_is_higher_and_a_time_when_it_is_lower() -> None:
    rate = comparison(SERVE, "peer", [Timed(300, 2.0)], [Timed(100, 1.0)])
    assert (rate.ours.samples, rate.theirs.samples, rate.times_better) == ([150.0], [100.0], [1.5])
    time = comparison(TRAINING, "peer", [Timed(1, 0.5)], [Timed(1, 4.0)])
    assert (time.ours.samples, time.theirs.samples, time.times_better) == ([0.5], [4.0], [8.0])


def test_a_batch_counts_all_its_values() -> None:
    assert comparison(BATCH, "peer", [Timed(3, 2.0)], []).ours.samples == [3 * 100 * 20 / 2.0]


def test_each_round_is_compared_with_the_one_next_to_it() -> None:
    """A machine that slows down by half in the middle changes every figure and no ratio."""
    ours = [Timed(count, 1.0) for count in (200, 200, 100, 100)]
    theirs = [Timed(count, 1.0) for count in (100, 100, 50, 50)]
    found = comparison(SERVE, "peer", ours, theirs)
    assert found.times_better == [2.0] * 4
    assert found.spread is not None and found.spread.quartiles == (2.0, 2.0)


def test_processor_time_is_for_each_request() -> None:
    rounds = [Timed(2, 1.0, processor_seconds=0.004), Timed(1, 1.0, processor_seconds=0.002)]
    side = comparison(SERVE, "peer", rounds, []).ours
    assert side.processor_ms == pytest.approx(2.0)


def test_a_peer_that_does_not_finish_is_known_to_be_no_faster_than_the_limit() -> None:
    slow = unfinished(TRAINING, "peer", [Timed(1, 0.5)], 60.0)
    assert (slow.at_least, slow.limit_seconds, slow.times_better) == (120.0, 60.0, [])
    assert unfinished(BATCH, "peer", [Timed(5, 1.0)], 60.0).at_least == pytest.approx(300.0)
    assert unfinished(BATCH, "peer", [], 60.0).at_least is None


# The same thing on both sides


def columns(n: list[int], **features: list[float]) -> dict[str, Any]:
    return {"n": np.array(n, float), **{name: np.array(column) for name, column in features.items()}}


NONE = float("nan")


def test_training_sets_agree_with_missing_values_and_without_rows_that_lack_one() -> None:
    ours = columns([0, 1, 2], a=[1.0, NONE, 3.0], b=[4.0, 5.0, NONE])
    assert same_columns(ours, ours) == (6, 0)
    assert same_columns(ours, columns([0, 2], a=[1.0, 3.0], b=[4.0, NONE])) == (4, 1)


@pytest.mark.parametrize(
    ("theirs", "what"),
    [
        (columns([0, 1], a=[1.0, 2.5], b=[3.0, NONE]), "other values of a"),
        (columns([0, 1], a=[1.0, 2.0], b=[3.0, 4.0]), "other values of b"),
        (columns([1], a=[2.0], b=[NONE]), "rows that have all values"),
        (columns([0, 1], a=[1.0, 2.0]), "other columns"),
    ],
)
def test_training_sets_that_differ_are_found_out(theirs: dict[str, Any], what: str) -> None:
    with pytest.raises(Differs, match=what):
        same_columns(columns([0, 1], a=[1.0, 2.0], b=[3.0, NONE]), theirs)


def test_training_sets_without_any_value_prove_nothing() -> None:
    empty = columns([0], a=[NONE])
    with pytest.raises(Differs, match="no values"):
        same_columns(empty, empty)


def test_everyone_is_asked_the_same_and_no_batch_comes_twice() -> None:
    data, again = Data(QUICK), Data(QUICK)
    work = Serve(PAIR, 3)
    assert data.asked(work, 1) == again.asked(work, 1) != data.asked(work, 2)
    assert {len(asked) for asked in data.asked(work, 1)} == {3}
    batches = [*data.batches(Write(BATCHED, 100)), *data.batches(Write(BATCHED, 2_000))]
    moments = [batch.moment for batch in batches]
    assert moments == sorted(set(moments)) and moments[0] > WRITTEN_FROM
    assert [batch.values.shape for batch in (batches[0], batches[-1])] == [(100, 20), (2_000, 20)]
    assert sum(len(batch.entities) for batch in batches) <= 2 * QUICK.rows


def test_the_histories_of_a_view_are_timed_together_or_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "HISTORY", 2_000)
    data = Data(QUICK)
    (together,) = data.histories(TOGETHER)
    apart = data.histories(SEPARATE)
    assert together.features == TOGETHER.features and set(together.table) == {"e", "t", *TOGETHER.features}
    assert [one.features for one in apart] == [[name] for name in SEPARATE.features]
    assert len(together.table["t"]) == len(apart[0].table["t"]) == 2_000 * QUICK.share
    assert list(apart[0].table["t"]) != list(apart[1].table["t"])


def test_columns_survive_the_way_through_arrow_and_come_back_in_the_order_of_the_rows() -> None:
    data = Data(QUICK)
    table = batch_table(BATCHED, data.batch(Write(BATCHED, 5)), "who", "when")
    assert (
        table.column_names == ["who", "when", *BATCHED.features]
        and str(table["when"].type) == "timestamp[us, tz=UTC]"
    )
    asked = arrow_of({"e": ["x", "y"], "t": np.array([5, 6]), "n": np.array([1, 0])}, "who", "when")
    frame = asked.to_pandas().assign(a=[10.0, 20.0])
    assert list(columns_of(frame, ["a"])["a"]) == [20.0, 10.0]
    assert list(columns_of(pd.DataFrame(frame[:1]), ["a"])["n"]) == [1.0]


# What is asked for


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    "words",
    [("--peers", "nobody"), ("--workloads", "nothing"), ("--setting", "LANE")],
)
def test_what_there_is_not_is_an_error_before_anything_starts(
    words: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(parsed(*words)) == 2
    assert "error: " in capsys.readouterr().err


def test_the_first_word_of_workloads_names_all_of_them() -> None:
    _, workloads, _ = _asked(parsed("--peers", "timewell", "--workloads", "rows,serve-1x2"))
    assert [one.name for one in workloads] == ["serve-1x2", "rows-1", "rows-100", "rows-training"]


def test_a_family_is_all_its_peers_and_each_may_be_asked_for_alone() -> None:
    assert list(chosen(["redis", "feast-sqlite", "redis-everysec"])) == [*PEERS["redis"], "feast-sqlite"]


# The tables


def some() -> list[Comparison]:
    whole = comparison(SERVE, "Feast", [Timed(1_000, 1.0)] * 2, [Timed(200, 1.0), Timed(100, 1.0)])
    whole.checked_values = 40
    wrong = comparison(SERVE, "Other", [Timed(10, 1.0)], [Timed(5, 1.0)])
    wrong.failure = "has other values"
    return [whole, unfinished(TRAINING, "Feast", [Timed(1, 0.5)], 60.0), wrong]


def test_the_table_has_both_sides_their_ratio_and_its_middle_half() -> None:
    head, whole, slow, wrong = rows(some())
    assert len(head) == len(whole) == len(slow) == len(wrong)
    assert whole[:6] == ("serve-1x2", "Feast", "1,000 requests/s", "150 requests/s", "7.50 x", "6.25 .. 8.75")
    assert whole[-1] == "40"
    assert slow[:5] == ("training-10000", "Feast", "0.5 s", "not in 60 s", ">= 120 x")
    assert wrong[-1] == "FAILED, see below"


def test_the_table_is_markdown_whose_columns_are_aligned() -> None:
    cells = rows(some())
    lines = table(cells, 2).splitlines()
    assert len(lines) == len(cells) + 1 and {line.index("Feast") for line in lines[2:4]} == {
        lines[0].index("peer")
    }
    assert {line.count("|") for line in lines} == {len(cells[0]) + 1}
    assert len({len(line) for line in lines}) == 1


def test_the_report_says_what_was_measured_on_what_and_what_went_wrong() -> None:
    found = document(*some())
    found.missing["redis"] = "no such port"
    found.comparisons[1].left_out = 17
    text = markdown(found)
    for words in (
        found.facts["commit"],
        found.facts["machine"]["cpu"],
        "Feast: feast 1",
        "redis could not run: no such port",
        "serve-1x2, Other: has other values",
        "left out 17 rows",
        WORKLOADS["training-10000"].about,
    ):
        assert words in text


def test_a_document_is_read_back_as_it_was_kept(tmp_path: Path) -> None:
    kept = keep(tmp_path, "kept", document(*some()), "report")
    read = msgspec.json.decode(kept.with_suffix(".json").read_bytes(), type=Document)
    assert msgspec.to_builtins(read.comparisons) == msgspec.to_builtins(some())
    assert read.comparisons[0].ours == Side([1_000.0, 1_000.0])


def test_the_widest_view_holds_all_others_that_are_served() -> None:
    assert PAIR.features == WIDE.features[:2] == ["f000", "f001"]
