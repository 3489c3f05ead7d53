"""The requests of the scenarios, and the checks of their answers."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from loadtest.workloads import scenarios, writing
from loadtest.workloads.asks import Ask, fault
from loadtest.workloads.reading import looking_back, serve
from loadtest.workloads.scenarios import SCENARIOS
from loadtest.workloads.shape import Shape, feature_id, value
from loadtest.workloads.soaking import PATTERN, Soaking

SHAPE = Shape(prefix="x-", filled_at=1_700_000_000_000_000, population=20, observations=5, batch_values=7)


def body_of(request: bytes) -> Any:
    return msgspec.json.decode(request.partition(b"\r\n\r\n")[2])


def served(entities: list[int], changed: Any = None) -> bytes:
    rows: list[dict[str, Any]] = [
        {"entityId": SHAPE.entity_id(one), "features": {feature_id(n): value(one, n, 4) for n in range(2)}}
        for one in entities
    ]
    if changed is not None:
        rows[0]["features"][feature_id(1)] = changed[0]
    return msgspec.json.encode({"results": rows})


def test_a_served_answer_must_have_the_entities_asked_for_in_order_with_the_values_written() -> None:
    ask = serve(SHAPE, [3, 1], exact=True)
    assert fault(ask, served([3, 1])) is None
    for wrong in (served([1, 3]), served([3]), served([3, 1], [0.5]), served([3, 1], [None]), b"{}", b"", b"[1]"):
        assert fault(ask, wrong) is not None


def test_beside_writes_any_value_will_do_but_not_none() -> None:
    ask = serve(SHAPE, [3, 1], exact=False)
    assert fault(ask, served([3, 1], [77])) is None
    assert fault(ask, served([3, 1], [None])) is not None


def test_a_write_must_be_acknowledged_and_a_batch_counted() -> None:
    write, batch = writing.write(SHAPE, 1, 0, 0.5), writing.batch(SHAPE, np.random.default_rng(1))
    assert fault(write, b'{"success":true}') is None
    assert fault(write, b'{"success":false}') is not None
    assert fault(batch, b'{"success":true,"count":7}') is None
    assert fault(batch, b'{"success":true,"count":6}') is not None
    assert len(body_of(batch.request)["values"]) == 7


def test_every_observation_is_filled_in_once_the_oldest_first() -> None:
    rows = [row for request in writing.fillings(SHAPE) for row in body_of(request)["values"]]
    assert len({(row["featureId"], row["entityId"], row["timestamp"]) for row in rows}) == len(rows) == 20 * 2 * 5
    assert [row["timestamp"] for row in rows] == sorted(row["timestamp"] for row in rows)
    assert rows[-1]["value"] == value(19, 1, 4)
    assert rows[-1]["timestamp"] == "2023-11-14T22:13:20.000Z"


def test_looking_back_asks_for_aggregates_windows_and_pages() -> None:
    random = np.random.default_rng(1)
    kinds = [looking_back(SHAPE, random).kind for _ in range(200)]
    assert {kind: kinds.count(kind) > 20 for kind in kinds} == {
        "aggregate": True,
        "windows": True,
        "history": True,
    }


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_requests_of_a_scenario_are_the_same_in_every_process(name: str) -> None:
    one, other = (SCENARIOS[name].work(SHAPE, 300) for _ in range(2))
    assert [one.ask(row).request for row in range(300)] == [other.ask(row).request for row in range(300)]
    for row in range(300):
        ask = one.ask(row)
        assert ask.kind == one.kinds[row % len(one.kinds)]
        assert fault(ask, b'{"results":[]}') is not None


def test_requests_are_made_up_to_a_number_and_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "RING", 50)
    monkeypatch.setattr(scenarios, "RING_BYTES", 100_000)
    large = msgspec.structs.replace(SHAPE, entities=1_000)
    assert len(SCENARIOS["serve"].work(SHAPE, 1_000_000).kinds) == 50
    assert 5 < len(SCENARIOS["serve"].work(large, 1_000_000).kinds) < 10


def test_shares_of_writes_and_batches_are_as_asked_for() -> None:
    shape = msgspec.structs.replace(SHAPE, writes=0.5, batches=0.25)
    kinds = list(SCENARIOS["mixed"].work(shape, 2_000).kinds)
    assert kinds.count("write") / 2_000 == pytest.approx(0.5, abs=0.05)
    assert kinds.count("write-batch") / 2_000 == pytest.approx(0.25, abs=0.05)


def test_the_hot_entity_takes_most_requests() -> None:
    shape = msgspec.structs.replace(SHAPE, writes=0)
    work = SCENARIOS["hot-entity"].work(shape, 1_000)
    hot = sum(body_of(work.ask(row).request)["entityIds"] == [SHAPE.entity_id(0)] for row in range(1_000))
    assert 500 < hot < 750


def test_no_two_writes_of_a_soak_are_about_one_entity_at_one_moment() -> None:
    work = Soaking(SHAPE, 200)
    seen = set()
    for row in range(200):
        written = work.written(row)
        assert (written is not None) == PATTERN[row % len(PATTERN)].startswith("write")
        if written is None:
            continue
        sent = body_of(work.ask(row).request)
        values = sent.get("values", [sent])
        assert [one["entityId"] for one in values] == [SHAPE.entity_id(entity) for entity in written.entities]
        assert {one["value"] for one in values} == {row}
        for one in values:
            seen.add((one["featureId"], one["entityId"], one["timestamp"]))
    assert len(seen) == 10 * (8 + 7)


def test_a_fault_says_what_was_asked_and_answered() -> None:
    ask = Ask("serve", b"", lambda body: body == b"right")
    assert fault(ask, b"right") is None
    assert fault(ask, b"left") == "serve: wrong answer left"
