"""The ids that a storage knows of are listed in pages as the naive oracle has them, over every storage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.domain import Feature
from actors.opening import AnyStorage
from actors.storage.embedded.local import LocalStorage
from actors.storage.embedded.on_disk import EmbeddedStorage
from actors.storage.entries import Deleted, Erased, Registered, Written
from actors.storage.listed import IdsPage, IdsQuestion, end_of
from actors.storage.postgres import known_ids as postgres_ids
from actors.storage.redis.functions import LEASES, ROOT, VERSIONS
from actors.storage.redis.known_ids import LISTED
from actors.storage.redis.link import Command
from actors.storage.redis.stored_rows import keys_of
from tests.actors.test_storage import X, Y, a_feature, by_id, table_of
from tests.live import storage_over

Y_LATER = msgspec.structs.replace(Y, created=1)
OTHER = a_feature("z", created=2)
OTHER = msgspec.structs.replace(OTHER, entity="shop", id="shop.z.v1")
FEATURES = (X, Y_LATER)
NOW = 0
MOMENTS = count(10)


def asked(
    prefix: str = "", after: str = "", limit: int = 1_000, features: Sequence[Feature] = FEATURES
) -> IdsQuestion:
    return IdsQuestion("user", features, prefix, after, limit)


def pages(storage: Any, prefix: str = "", limit: int = 1_000, **rest: Any) -> Iterator[IdsPage]:
    after: str | None = ""
    while after is not None:
        page = storage.ids.page(asked(prefix, after, limit, **rest))
        assert len(page.ids) <= limit
        assert page.after is None or page.after > after
        yield page
        after = page.after


def ids(storage: Any, prefix: str = "", limit: int = 1_000, **rest: Any) -> list[str]:
    return [id_ for page in pages(storage, prefix, limit, **rest) for id_ in page.ids.to_pylist()]


class Naive:
    """A storage beside which a set of (feature, id) is kept."""

    def __init__(self, storage: Any) -> None:
        self.storage = storage
        self.features = by_id(*FEATURES)
        self.known = set[tuple[str, str]]()
        self.arrived = next(MOMENTS)
        storage.log.commit([Registered(feature) for feature in (*FEATURES, OTHER)])

    def ids(self, prefix: str = "") -> list[str]:
        return sorted({id_ for _, id_ in self.known if id_.startswith(prefix)})

    def write(self, feature: Feature, *entities: str, value: float | None = 1.0) -> None:
        self.arrived = next(MOMENTS)
        table = table_of(feature, *((entity, self.arrived, value) for entity in entities))
        self.storage.log.commit([Written(self.arrived, [table], None, b"{}")])
        if feature.entity == "user":
            self.known |= {(feature.id, entity) for entity in entities}

    def erase(self, entity: str) -> None:
        self.arrived = next(MOMENTS)
        self.storage.log.commit([Erased("user", entity, self.arrived)])
        self.known = {(feature, id_) for feature, id_ in self.known if id_ != entity}

    def delete(self, feature: Feature) -> None:
        self.features.pop(feature.id)
        self.storage.log.commit([Deleted(feature)])
        self.known = {(id_, entity) for id_, entity in self.known if id_ != feature.id}
        self.storage.history.forget(lambda: self.features)

    def settle(self, whole: bool = True) -> None:
        """Move the journal into the history, and there do what a checkpoint does."""
        if isinstance(self.storage, LocalStorage):
            history = self.storage.history
            while history.flush(lambda: {**self.features, OTHER.id: OTHER}, NOW).observations:
                pass
            if whole:
                self.storage.log.trim(self.arrived, NOW)
                history.erase()
                history.compact(lambda: {**self.features, OTHER.id: OTHER}, NOW)


@pytest.fixture
def naive(any_storage: AnyStorage) -> Naive:
    return Naive(any_storage)


def test_a_null_alone_is_something_that_is_known(naive: Naive) -> None:
    assert ids(naive.storage) == []
    naive.write(X, "b", value=None)
    naive.write(Y_LATER, "a")
    naive.write(OTHER, "c")
    assert ids(naive.storage) == ["a", "b"]
    naive.settle()
    assert ids(naive.storage) == ["a", "b"]


def test_ids_are_sorted_by_code_points_and_found_by_prefix(naive: Naive) -> None:
    names = [
        "Z",
        "a",
        "ab",
        "a b",
        "b",
        "é",
        "e\u0301",
        "ß",
        "\ud7ff",
        "\ue000",
        "\uffff",
        "😀",
        "\U0010ffff",
        "0",
        "-",
        '["u1","m9"]',
        "%",
    ]
    naive.write(X, *names)
    assert ids(naive.storage) == sorted(names)
    for prefix in ["a", "a ", "é", "\ud7ff", "\uffff", "\U0010ffff", "😀", '["u1",', "none", "%", "\0"]:
        assert ids(naive.storage, prefix, limit=1) == naive.ids(prefix), prefix


def test_an_erased_id_is_gone_at_once_and_comes_back_when_it_is_written(naive: Naive) -> None:
    naive.write(X, "a", "b", "c")
    naive.settle()
    naive.write(X, "d")
    assert ids(naive.storage) == ["a", "b", "c", "d"]
    naive.erase("b")
    naive.erase("d")
    assert ids(naive.storage) == ["a", "c"]
    naive.write(Y_LATER, "b")
    assert ids(naive.storage) == ["a", "b", "c"]
    naive.settle(whole=False)
    assert ids(naive.storage) == ["a", "b", "c"]
    naive.settle()
    assert ids(naive.storage) == ["a", "b", "c"]


def test_the_ids_of_a_deleted_feature_alone_are_gone(naive: Naive) -> None:
    naive.write(X, "a", "b")
    naive.write(Y_LATER, "b", "c")
    naive.settle()
    assert ids(naive.storage) == ["a", "b", "c"]
    naive.delete(X)
    assert ids(naive.storage, features=[Y_LATER]) == ["b", "c"]


def test_what_is_kept_for_further_pages_is_freed_and_made_again(naive: Naive) -> None:
    naive.write(X, "a", "b")
    naive.settle()
    assert ids(naive.storage) == ["a", "b"]
    if isinstance(naive.storage, LocalStorage):
        naive.storage.ids.let_go(0.0)
    assert ids(naive.storage) == ["a", "b"]


names = st.text(st.sampled_from(["a", "b", "é", "\uffff", "😀", "1"]), min_size=1, max_size=3)
actions = st.one_of(
    st.tuples(st.just("write"), st.sampled_from([X, Y_LATER, OTHER]), st.lists(names, min_size=1, max_size=8)),
    st.tuples(st.just("erase"), names),
    st.tuples(st.just("settle"), st.booleans()),
    st.tuples(
        st.just("list"), st.text(st.sampled_from(["a", "é", "\uffff", "😀"]), max_size=2), st.integers(1, 5)
    ),
    st.tuples(st.just("let go")),
)


@given(st.lists(actions, max_size=25))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_of_writes_and_erasures_lists_what_the_naive_oracle_has(
    any_storage: AnyStorage, steps: list[tuple[Any, ...]]
) -> None:
    naive = Naive(any_storage)
    for id_ in ids(any_storage):  # of the example before
        naive.erase(id_)
    for action, *about in steps:
        match action:
            case "write":
                naive.write(about[0], *about[1])
            case "erase":
                naive.erase(about[0])
            case "settle":
                naive.settle(about[0])
            case "let go" if isinstance(any_storage, LocalStorage):
                any_storage.ids.let_go(0.0)
            case "list":
                assert ids(any_storage, *about) == naive.ids(about[0])
    assert ids(any_storage, limit=3) == naive.ids()


@pytest.mark.parametrize("prefix", ["a", "\ud7ff", "ab\U0010ffff", "\U0010ffff", ""])
def test_the_end_of_a_prefix_comes_after_all_texts_that_begin_with_it(prefix: str) -> None:
    end = end_of(prefix)
    for text in (prefix, prefix + "\U0010ffff" * 9):
        assert end is None or text < end
    assert end is not None or set(prefix) <= {"\U0010ffff"}
    if end is not None:
        assert not end.startswith(prefix) and end.encode()


def test_entities_with_many_rows_between_those_of_other_types_are_all_listed_in_short_pages(naive: Naive) -> None:
    for _ in range(3):
        naive.write(X, *(f"many{number % 5}" for number in range(1_000)))
        naive.write(OTHER, *(f"many{number % 50}x" for number in range(500)))
    naive.write(X, "last", "many2")
    naive.settle()
    for limit in (1, 2, 100):
        assert ids(naive.storage, limit=limit) == naive.ids() == ["last", *(f"many{one}" for one in range(5))]
        assert ids(naive.storage, "many", limit=limit) == [f"many{one}" for one in range(5)]


def test_a_page_over_postgresql_ends_when_it_has_looked_at_many_ids_of_other_types(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_ids, "LOOKED_AT_MOST", 10)
    with storage_over({"STORAGE_TYPE": "postgresql", "STORAGE_URL": database}) as storage:
        naive = Naive(storage)
        naive.write(OTHER, *(f"u{number:04}" for number in range(2_000)))
        naive.write(X, "u1000x", "u1999")
        found = list(pages(storage, limit=3))
        assert [id_ for page in found for id_ in page.ids.to_pylist()] == ["u1000x", "u1999"]
        assert 0 in [len(page.ids) for page in found]


@pytest.fixture(params=["valkey", "valkey_cluster"])
def redis(request: pytest.FixtureRequest) -> Iterator[Naive]:
    server = request.getfixturevalue(request.param)
    server.empty()
    with storage_over({"STORAGE_TYPE": "redis", "STORAGE_URL": server.url}) as storage:
        yield Naive(storage)


def forget_the_sets(storage: Any) -> None:
    """What a store is like that an earlier version has written."""
    for keys in storage._link.each_key(b"tw:{ids/*"):
        storage._link.ask([Command(key, ("DEL", key)) for key in keys])
    storage._link.ask([Command(ROOT, ("HDEL", VERSIONS, "ids"))])


def test_a_redis_that_an_earlier_version_has_written_is_listed_wholly(redis: Naive) -> None:
    redis.write(X, *(f"u{number}" for number in range(300)))
    redis.write(OTHER, "s")
    forget_the_sets(redis.storage)
    redis.write(X, "new")
    assert ids(redis.storage, limit=50) == redis.ids()
    assert redis.storage._link.ask([LISTED]) == [b"16"]
    assert ids(redis.storage, "u1", limit=50) == redis.ids("u1")


def test_beside_a_process_of_an_earlier_version_keys_are_scanned_and_afterwards_the_sets_are_made_anew(
    redis: Naive,
) -> None:
    link = redis.storage._link
    link.ask([Command(LEASES, ("HSET", LEASES, b"0123456789abcdef", 2**52))])
    redis.write(X, "a", "b", "c", "d", "e")
    forget_the_sets(redis.storage)  # that process has written these
    assert ids(redis.storage, limit=1) == redis.ids()
    assert link.ask([LISTED]) == [None]
    link.ask([Command(LEASES, ("HDEL", LEASES, b"0123456789abcdef"))])
    assert ids(redis.storage, limit=1) == redis.ids()
    assert link.ask([LISTED]) == [b"16"]
    link.ask([Command(LEASES, ("HSET", LEASES, b"0123456789abcdef", 2**52))])
    with storage_over({"STORAGE_TYPE": "redis", "STORAGE_URL": url_of(redis.storage)}):
        assert link.ask([LISTED]) == [None]


def url_of(storage: Any) -> str:
    where = storage._link._first.connection_pool.connection_kwargs
    return f"redis://{where['host']}:{where['port']}/{where.get('db', 0)}"


def test_an_id_whose_rows_have_expired_in_redis_is_not_listed_and_leaves_its_set(redis: Naive) -> None:
    redis.write(X, "a", "b")
    newest, history = keys_of("user", "a")
    redis.storage._link.ask([Command(newest, ("UNLINK", newest, history))])
    assert ids(redis.storage) == ["b"]
    sets = [key for keys in redis.storage._link.each_key(b"tw:{ids/*") for key in keys]
    assert sum(redis.storage._link.ask([Command(key, ("ZCARD", key)) for key in sets])) == 1


def test_ids_are_listed_after_a_restart_with_the_memory_empty(tmp_path: Path) -> None:
    storage = EmbeddedStorage(str(tmp_path))
    storage.open()
    naive = Naive(storage)
    naive.write(X, "a", "b", "c")
    naive.settle()
    naive.erase("b")
    naive.write(X, "d")
    storage.close()
    again = EmbeddedStorage(str(tmp_path))
    again.open()
    assert ids(again) == naive.ids() == ["a", "c", "d"]
    again.close()
