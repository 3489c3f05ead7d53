"""Rows of several entity types in the clients, as dicts and as frames; composite ids out of columns."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pandas as pd
import polars as pl
import pytest

import timewell
from tests.live import LiveServer
from timewell import AsyncClient, Client, arrow
from timewell.routes import serving
from timewell.wire import FeatureEntry

TEN = datetime(2025, 11, 7, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
KINDS = [pd.DataFrame, pl.DataFrame]


class House:
    """Users, shops and pairs of them under names of their own."""

    def __init__(self, client: Client) -> None:
        whose = f"h{uuid4().hex}"
        self.user, self.shop, self.pair = (f"{whose}_{kind}" for kind in ("user", "shop", "pair"))
        client.put_entity_type(self.pair, [self.user, self.shop])
        self.spend = client.register("spend", self.user, "number").id
        self.open = client.register("open", self.shop, "boolean").id
        self.visits = client.register("visits", self.pair, "integer").id
        client.write_batch(
            [
                (self.spend, "u1", 10, TEN),
                (self.spend, "u1", 11, TEN + HOUR),
                (self.spend, "7", 70, TEN),
                (self.open, "s9", True, TEN),
                (self.visits, '["u1","s9"]', 3, TEN),
            ]
        )

    def row(self, user: Any, shop: Any = "s9", **more: Any) -> dict[str, Any]:
        return {self.user: user, self.shop: shop, **more}


@pytest.fixture
def house(client: Client) -> House:
    return House(client)


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything goes out in parts of two rows."""
    monkeypatch.setattr(arrow, "MOST_ROWS", 2)
    monkeypatch.setattr(serving, "MOST_ENTITIES", 2)


def plain(frame: Any) -> list[dict[str, Any]]:
    """The rows of a frame, or as they are; missing values as None."""
    if isinstance(frame, list):
        return frame
    if isinstance(frame, pl.DataFrame):
        return frame.to_dicts()
    return [
        {key: None if pd.isna(value) else value for key, value in row.items()}
        for row in frame.astype(object).to_dict("records")
    ]


# Serving


def test_rows_are_served_as_dicts_in_their_order(client: Client, house: House, pairs: None) -> None:
    rows = [house.row("u1", amount=120), house.row(7), house.row(None), house.row("nobody", None), house.row("u1")]
    served = client.serve_rows(rows, [house.visits, house.spend, house.open])
    assert [list(one.features.values()) for one in served] == [
        [3, 11, True],
        [None, 70, True],
        [None, None, True],
        [None, None, None],
        [3, 11, True],
    ]
    assert served[1].keys == house.row(7)
    assert len({one.timestamp for one in served}) == 1
    assert client.serve_rows([], [house.spend]) == []


def test_ids_may_be_uuids_and_whole_numbers_of_numpy(client: Client, house: House) -> None:
    one = UUID("00000000-0000-0000-0000-000000000001")
    client.write(house.spend, one, 5)
    rows = [{house.user: one}, {house.user: pd.Series([7])[0]}, {house.user: pd.NA}]
    assert [row.features[house.spend] for row in client.serve_rows(rows, [house.spend])] == [5, 70, None]


def test_entries_give_roles_and_names_and_metadata_comes_along(client: Client, house: House) -> None:
    entries: list[Any] = [
        {"ref": house.spend, "as": "paid"},
        FeatureEntry(ref=house.spend, key="payee", name="got"),
    ]
    (row,) = client.serve_rows([house.row("u1", payee=7)], entries, include_metadata=True, as_of=TEN)
    assert row.features == {"paid": 10, "got": 70}
    assert row.metadata["got"].status == "present"
    assert row.keys == {house.user: "u1", "payee": 7}


@pytest.mark.parametrize("make", KINDS)
def test_a_frame_comes_back_with_a_column_per_feature_on_its_right(
    client: Client, house: House, make: Any, pairs: None
) -> None:
    given = make({"label": [TEN, TEN, None], house.shop: ["s9", None, "s9"], house.user: ["u1", "u1", "x"]})
    answer = client.serve_rows(given, [house.open, house.visits, {"ref": house.spend, "as": "spend"}])
    assert type(answer) is type(given)
    assert list(answer.columns) == ["label", house.shop, house.user, house.open, house.visits, "spend"]
    found = [[row[house.open], row[house.visits], row["spend"]] for row in plain(answer)]
    assert found == [[True, 3, 11], [None, None, 11], [True, None, None]]


def test_an_index_stays_and_types_are_those_of_the_features(client: Client, house: House) -> None:
    index = pd.Index([5, 5, 1], name="key")
    given = pd.DataFrame({house.user: pd.array([7, None, 8], "Int64"), house.shop: ["s9"] * 3}, index=index)
    answer = client.serve_rows(given, [house.visits, house.spend])
    assert answer.index.equals(index)
    floats = client.serve_rows(given.assign(**{house.user: [7.0, None, 8.0]}), [house.visits, house.spend])
    assert floats[house.spend].equals(answer[house.spend]) and answer[house.spend].tolist()[0] == 70
    assert str(answer[house.visits].dtype) == "Int64" and answer[house.spend].dtype == float
    none = client.serve_rows(given.iloc[:0], [house.visits])
    assert list(none.columns) == [house.user, house.shop, house.visits] and len(none) == 0


@pytest.mark.parametrize("make", KINDS)
def test_a_service_names_the_columns_and_the_fields(client: Client, house: House, make: Any) -> None:
    entry = {"ref": house.visits, "key": {house.user: "payer"}, "as": "visits"}
    service = client.put_service(f"{house.user}_model", [house.open, entry])
    given = {"payer": ["u1"], house.shop: ["s9"]}
    answer = client.serve_rows(make(given), service=service.name)
    assert list(answer.columns) == ["payer", house.shop, house.open, "visits"]
    assert plain(answer)[0]["visits"] == 3
    (row,) = client.serve_rows([{"payer": "u1", house.shop: "s9"}], service=service.id)
    assert row.features == {house.open: True, "visits": 3}


def test_a_service_of_one_entity_type_is_served_by_ids_too(client: Client, house: House) -> None:
    service = client.put_service(f"{house.user}_one", [{"ref": house.spend, "as": "spend"}])
    assert client.serve(["u1"], service=service.id)[0].features == {"spend": 11}
    assert client.serve(["u1"], [{"ref": house.spend, "as": "s"}])[0].features == {"s": 11}
    answer = client.serve_frame(["u1", "x"], service=service.id)
    assert plain(answer) == [{"entityId": "u1", "spend": 11}, {"entityId": "x", "spend": None}]


@pytest.mark.parametrize("make", [list, pd.DataFrame, pl.DataFrame])
def test_what_is_wrong_with_a_row_is_told_by_its_place_in_the_whole(
    client: Client, house: House, make: Any, pairs: None
) -> None:
    rows = [house.row("u1"), house.row("u1"), house.row("u1"), house.row("")]
    with pytest.raises(timewell.InvalidInput) as caught:
        client.serve_rows(make(rows), [house.spend, house.open])
    (fault,) = caught.value.errors
    assert (fault.index, fault.field) == (3, f"rows.{house.user}")


def test_what_cannot_be_asked_is_refused(client: Client, house: House) -> None:
    frame = pd.DataFrame([house.row("u1")])
    refused: list[tuple[Any, list[Any], dict[str, Any], str]] = [
        (frame, [house.spend], {"include_metadata": True}, "include_metadata"),
        (frame.drop(columns=[house.user]), [house.spend], {}, house.user),
        (frame.assign(**{house.user: 1.5}), [house.spend], {}, house.user),
        (frame.assign(**{house.spend: 1}), [house.spend], {}, "features"),
        (frame, [{"as": "x"}], {}, "features[0]"),
        ("u1", [house.spend], {}, "rows"),
        ([house.row("u1", day=TEN.date())], [house.spend], {}, "day"),
    ]
    for rows, features, more, field in refused:
        with pytest.raises(timewell.InvalidInput) as caught:
            client.serve_rows(rows, features, **more)
        assert caught.value.errors[0].field == field
    with pytest.raises(timewell.NotFound):
        client.serve_rows(frame, service="nobody.knows")
    with pytest.raises(timewell.InvalidInput, match="send rows"):
        client.serve(["u1"], [house.spend, house.open])


def test_rows_are_awaited_too(shared_server: LiveServer, client: Client, house: House) -> None:
    async def ask() -> list[Any]:
        async with AsyncClient(shared_server.url) as asking:
            rows = await asking.serve_rows([house.row("u1")], [house.visits])
            frame = await asking.serve_rows(pd.DataFrame([house.row("u1")]), [house.visits])
            return [rows[0].features[house.visits], frame[house.visits][0]]

    assert asyncio.run(ask()) == [3, 3]


# Writing


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("form", [list, dict])
def test_a_frame_has_the_parts_of_composite_ids_in_columns(
    client: Client, house: House, make: Any, form: Any, pairs: None
) -> None:
    given = make(
        {
            "user_id": ["u1", "u2", "u1", "u1"],
            "shop_id": [1, 2, 2, 1],
            "visits": [5, None, 7, 8],
            "ts": [TEN, TEN, TEN, TEN],
        }
    )
    keys = ["user_id", "shop_id"] if form is list else {house.shop: "shop_id", house.user: "user_id"}
    written = client.write_frame(given, house.pair, keys=keys, timestamp_column="ts")
    assert (written.count, written.skipped, written.overwritten) == (3, 1, 1)
    rows = [house.row("u1", 1), house.row("u2", 2), house.row("u1", 2)]
    assert [row.features[house.visits] for row in client.serve_rows(rows, [house.visits])] == [8, None, 7]
    assert list(client.ids(house.pair)) == ['["u1","1"]', '["u1","2"]', '["u1","s9"]']


def test_a_frame_of_one_key_names_its_column_alike(client: Client, house: House) -> None:
    frame = pd.DataFrame({"who": ["u1"], "spend": [99.0]})
    assert client.write_frame(frame, house.user, keys=["who"], timestamp_column=None).count == 1
    assert client.serve(["u1"], [house.spend])[0].features[house.spend] == 99


def test_columns_named_like_the_keys_are_taken_by_name_in_any_order(client: Client, house: House) -> None:
    frame = pd.DataFrame({house.user: ["u3"], house.shop: ["s3"], "visits": [5]})
    client.write_frame(frame, house.pair, keys=[house.shop, house.user], timestamp_column=None)
    assert '["u3","s3"]' in list(client.ids(house.pair))
    crossed = frame.rename(columns={house.shop: "shop"})
    with pytest.raises(timewell.InvalidInput, match="columns by key"):
        client.write_frame(crossed, house.pair, keys=["shop", house.user], timestamp_column=None)


def test_whole_floats_are_ids_and_a_missing_part_is_told_by_its_row(client: Client, house: House) -> None:
    numbers = pd.DataFrame({"a": [8.0, 9.0], "b": ["s", "t"], "visits": [1, 2]})
    client.write_frame(numbers, house.pair, keys=["a", "b"], timestamp_column=None)
    assert {'["8","s"]', '["9","t"]'} <= set(client.ids(house.pair))
    lacking = pd.DataFrame({"a": [8, None], "b": ["s", "t"], "visits": [1, 2]})
    with pytest.raises(timewell.InvalidInput, match="a: is missing") as caught:
        client.write_frame(lacking, house.pair, keys=["a", "b"], timestamp_column=None)
    assert caught.value.errors[0].index == 1


def test_rows_out_of_a_frame_may_have_nan_and_nat_in_any_field(client: Client, house: House) -> None:
    rows = [house.row("u1", x=float("nan"), y=pd.NaT), house.row(float("nan"))]
    found = client.serve_rows(rows, [house.spend, house.open])
    assert [row.features[house.spend] for row in found] == [11, None]
    assert found[1].features[house.open] is True


def test_keys_that_do_not_fit_are_refused(client: Client, house: House) -> None:
    frame = pd.DataFrame({"a": ["u1", None], "b": ["s", "t"], "visits": [1, 2]})
    for keys, field in ((["a"], "keys"), ("a", "keys"), (["b", "c"], "c"), (["a", "b"], "a")):
        with pytest.raises(timewell.InvalidInput) as caught:
            client.write_frame(frame, house.pair, keys=keys, timestamp_column=None)
        assert caught.value.errors[0].field == field
    assert caught.value.errors[0].index == 1
    with pytest.raises(timewell.InvalidInput) as caught:
        client.write_frame(frame[:1], house.pair, keys={house.user: "a"}, timestamp_column=None)
    assert caught.value.errors[0].field == house.shop
    with pytest.raises(timewell.InvalidInput, match="compact JSON array"):
        client.write_frame(frame[:1], house.pair, id_column="a", columns=["visits"], timestamp_column=None)


def test_a_service_over_several_types_is_exported_one_type_at_a_time(client: Client, house: House) -> None:
    service = client.put_service(f"{house.user}_all", [house.spend, {"ref": house.open, "as": "is_open"}]).id
    (frame,) = client.export(service=service, entity=house.shop)
    assert [frame["entityId"].tolist(), frame["is_open"].tolist(), len(frame.columns)] == [["s9"], [True], 3]
    (frame,) = client.export(service=service, entity=house.user, entity_ids=["u1"])
    assert frame[house.spend].tolist() == [10, 11]


# Training sets


@pytest.mark.parametrize("make", [list, pd.DataFrame, pl.DataFrame])
def test_a_training_set_reads_what_was_known_of_each_entity_of_a_row(
    client: Client, house: House, make: Any, pairs: None
) -> None:
    rows = [
        {"user_id": "u1", "s": "s9", "ts": TEN + 2 * HOUR, "label": 1},
        {"user_id": "7", "s": None, "ts": TEN, "label": 0},
        {"user_id": None, "s": "s9", "ts": TEN - HOUR, "label": 1},
    ]
    keys = {house.user: "user_id", house.shop: "s"}
    expected = [[3, 11, True], [None, 70, None], [None, None, None]]
    names = [house.visits, house.spend, house.open]
    answer = client.training_set(make(rows), names, keys=keys, timestamp_column="ts")
    assert type(answer) is make
    assert [[row[name] for name in names] for row in plain(answer)] == expected
    assert [row["user_id"] for row in plain(answer)] == ["u1", "7", None]
    service = client.put_service(f"{house.user}_train", [*names[:2], {"ref": house.open, "as": "is_open"}])
    answer = client.training_set(make(rows), service=service.id, keys=keys, timestamp_column="ts")
    assert [list(row.values())[-3:] for row in plain(answer)] == expected


@pytest.mark.parametrize("make", [list, pd.DataFrame, pl.DataFrame])
def test_one_type_comes_in_two_roles_in_a_training_set(client: Client, house: House, make: Any) -> None:
    rows = [
        {house.user: "u1", "to": "7", "timestamp": TEN},
        {house.user: "7", "to": "u1", "timestamp": TEN + HOUR},
    ]
    entries: list[Any] = [house.spend, {"ref": house.spend, "key": "payee", "as": "got"}]
    answer = client.training_set(make(rows), entries, keys={house.user: house.user, "payee": "to"})
    assert [[row[house.spend], row["got"]] for row in plain(answer)] == [[10, 70], [70, 11]]
    alike = client.training_set(make(rows), [house.spend], keys=[house.user])
    assert [row[house.spend] for row in plain(alike)] == [10, 70]


@pytest.mark.parametrize("make", [list, pd.DataFrame, pl.DataFrame])
def test_rows_that_have_fields_named_like_the_keys_need_no_word_of_them(
    client: Client, house: House, make: Any, pairs: None
) -> None:
    rows = [house.row(user, label=1, timestamp=TEN + HOUR) for user in ("u1", "7", "u1")]
    names = [house.spend, house.open, house.visits]
    answer = client.training_set(make(rows), names)
    assert [[row[name] for name in names] for row in plain(answer)] == [
        [11, True, 3],
        [70, True, None],
        [11, True, 3],
    ]
    client.put_group(f"{house.user}_group", house.user, ["spend"])
    answer = client.training_set(make(rows), group=f"{house.user}_group")
    assert [row["spend"] for row in plain(answer)] == [11, 70, 11]
    with pytest.raises(timewell.InvalidInput, match=f"{house.shop}: .* name it in keys"):
        client.training_set(make(rows), names, keys={house.user: house.user})
    with pytest.raises(timewell.InvalidInput, match=f"{house.shop}: there is no column .* keys"):
        client.training_set([{house.user: "u1", "timestamp": TEN}], names)


def test_what_is_wrong_with_a_row_of_a_training_set_is_told_by_its_place(
    client: Client, house: House, pairs: None
) -> None:
    rows = [{"u": user, "timestamp": TEN} for user in ("a", "b", "c", "", 1.5)]
    for given, index, field in (
        (rows[:4], 3, f"rows.{house.user}"),
        (rows, 4, "u"),
        ([{"timestamp": TEN}], 0, "u"),
    ):
        with pytest.raises(timewell.InvalidInput) as caught:
            client.training_set(given, [house.spend], keys={house.user: "u"})
        assert (caught.value.errors[0].index, caught.value.errors[0].field) == (index, field)
        assert "rows" not in field or caught.value.detail.startswith(f"rows[{index}].")
    with pytest.raises(timewell.InvalidInput, match="needs it"):
        client.training_set(pd.DataFrame(rows[:2]), [house.spend, house.open], keys={house.user: "u"})


def test_what_keys_stand_for_is_sent_by_the_names_of_the_keys() -> None:
    asked: list[httpx.Request] = []

    def reply(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        table = arrow.from_stream(request.content)
        return httpx.Response(200, content=arrow.to_stream(table.append_column("x", [[1.5, 2.5]])))

    given = pd.DataFrame({"user_id": [7, 8], "m": ["a", None], "ts": [TEN, TEN], "label": [1, 0]}, index=[3, 4])
    client = Client(transport=httpx.MockTransport(reply))
    keys = {"user": "user_id", "merchant": "m"}
    answer = client.training_set(given, service="fraud.v1", keys=keys, timestamp_column="ts")
    assert answer.columns.tolist() == ["user_id", "m", "ts", "label", "x"] and answer.index.tolist() == [3, 4]
    sent = arrow.from_stream(asked[0].content).to_pydict()
    assert (sent["user"], sent["merchant"], set(sent)) == (
        ["7", "8"],
        ["a", None],
        {"user", "merchant", "timestamp"},
    )
    assert dict(asked[0].url.params) == {"service": "fraud.v1"}
