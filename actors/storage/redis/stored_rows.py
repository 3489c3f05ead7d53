"""Reads and writes observations in Redis: the bytes of rows and keys, and the commands."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import numpy as np

from actors.amount import Amount
from actors.domain import Feature
from actors.settings import MAX_ROWS_FROM_SHARED, MOST_WIDE_SHAPES, VISIT_BYTES
from actors.storage.protocol import LatestAnswers, LatestQuestion, LoadedRows
from actors.storage.redis.functions import ROOT, VERSIONS
from actors.storage.redis.link import Command, RedisLink, call, judged
from actors.storage.shared.packed import PackedColumns, Shape, payloads_of, placed, unpacked
from actors.storage.shared.parts import Part, newest_of, rows_of
from actors.table.batch import Batch
from actors.table.rows import Rows
from actors.timestamps import FOREVER, NEVER

_SHAPE = struct.Struct(">I")
_BIAS = 2**63
HEAD_BYTES = 16
"""The size of event time and arrival."""


def moment(micros: int) -> bytes:
    """Encode a moment as eight bytes that sort like the numbers."""
    return (min(max(micros, NEVER), FOREVER) + _BIAS).to_bytes(8, "big")


def keys_of(entity_type: str, entity_id: str) -> tuple[bytes, bytes]:
    """The keys of an entity: that of its newest rows, and that of its history."""
    tag = b"tw:{%b:%b}" % (entity_type.encode(), entity_id.encode())
    return tag + b":n", tag + b":h"


def entity_of(key: bytes) -> tuple[str, str]:
    """The entity type and id in the key of a history."""
    type_, _, id_ = key[len(b"tw:{") : -len(b"}:h")].partition(b":")
    return type_.decode(), id_.decode()


class _Known:
    """All shapes as of a version. Immutable."""

    def __init__(self, version: bytes, shapes: Mapping[int, tuple[str, Shape]]) -> None:
        self.version = version
        self.shapes = shapes
        self._having: dict[tuple[str, int], list[int]] = {}
        for number, (entity_type, shape) in shapes.items():
            for member in shape.members:
                self._having.setdefault((entity_type, member), []).append(number)

    def holding(self, entity_type: str, features: Sequence[Feature]) -> list[int]:
        """The numbers of the shapes that have at least one of the features."""
        found = [self._having.get((entity_type, feature.created), ()) for feature in features]
        return list(dict.fromkeys(chain.from_iterable(found)))


class Shapes:
    """A cache of all shapes, whose version every read compares with that in Redis. Thread-safe."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._numbers: dict[tuple[str, Shape], int] = {}
        self.known = _Known(b"0", {})

    def load(self) -> None:
        """Read all shapes."""
        (version,) = self._link.ask([Command(ROOT, ("HGET", VERSIONS, "shapes"))])
        (found,) = self._link.ask([Command(ROOT, ("HGETALL", ROOT + b":numbers"))])
        shapes: dict[int, tuple[str, Shape]] = {}
        for number, record in zip(found[::2], found[1::2], strict=True):
            entity_type, members, kinds = msgspec.msgpack.decode(record)
            shapes[int(number)] = entity_type, Shape(tuple(members), tuple(kinds))
        self._numbers = {shape: number for number, shape in shapes.items()}
        self.known = _Known(version or b"0", shapes)

    def number(self, entity_type: str, shape: Shape) -> int | None:
        """The number of a shape, which is created if it is new; None if the entity type may not have more."""
        known = self._numbers.get((entity_type, shape))
        if known is not None:
            return known
        record = msgspec.msgpack.encode((entity_type, shape.members, shape.kinds))
        most = MOST_WIDE_SHAPES if len(shape.members) > 1 else 0
        keys = [VERSIONS, *(ROOT + name for name in (b":shapes", b":numbers", b":wide"))]
        (made,) = self._link.ask([call("shape", keys, record, most, entity_type)])
        if not made:
            return None
        self._numbers[entity_type, shape] = int(made)
        return int(made)

    def of(self, number: int) -> Shape:
        """The shape with a number."""
        if number not in self.known.shapes:
            self.load()
        return self.known.shapes[number][1]


class RowWriter:
    """Collects rows, and makes commands of them: all rows of an entity are in one command."""

    def __init__(
        self, shapes: Shapes, features: Mapping[str, Feature], lives: Mapping[str, int | None], now: int
    ) -> None:
        """`features`, `lives` (see `lives_of`) and `now` determine how long values are kept."""
        self._shapes = shapes
        self._lives = lives
        self._features = features
        self._now = now
        self._rows: dict[tuple[str, str], list[bytes]] = {}
        self._newest: dict[str, int] = {}

    def add(self, batch: Batch) -> None:
        """Add a batch."""
        for place in placed(batch, self._shapes.number):
            self._add(*place)

    def _add(self, group: PackedColumns, number: int) -> None:
        shape, cut, table = _SHAPE.pack(number), self._cut(group), group.table
        entity_type, times = table.entity_type, table.times.tolist()
        self._newest[entity_type] = max(self._newest.get(entity_type, NEVER), table.bounds[1])
        for entity, time, payload in zip(table.entities, times, payloads_of(group), strict=True):
            self._rows.setdefault((entity_type, entity), []).extend((shape, moment(time), cut, payload))

    def _cut(self, group: PackedColumns) -> bytes:
        """The oldest event time to keep; empty if all are kept."""
        ages = [self._age(column.feature) for column in group.columns]
        return b"" if None in ages else moment(self._now - max(age for age in ages if age is not None))

    def _age(self, feature: str) -> int | None:
        known = self._features.get(feature)
        return None if known is None else known.kept_age

    def commands(self, entities: int, version: int | None = None) -> list[Command]:
        """The commands for the rows added since the last call, for at most `entities` entities each.

        They do nothing unless the registry is of the version that all was validated with; None: any version.
        """
        found = []
        for entity_type in {entity_type for entity_type, _ in self._rows}:
            life = self._life(entity_type)
            of_type = [(id_, rows) for (type_, id_), rows in self._rows.items() if type_ == entity_type]
            for start in range(0, len(of_type), entities):
                keys, words = list[bytes](), list[bytes | int]()
                for id_, rows in of_type[start : start + entities]:
                    keys += keys_of(entity_type, id_)
                    words.append(len(rows) // 4)
                    words += rows
                found.append(judged(version, "write", keys, life, *words))
        self._rows = {}
        return found

    def _life(self, entity_type: str) -> int | bytes:
        """Milliseconds after which no value of an entity of this type is visible any more; 0 for never.

        Empty if the type never had such a limit, so that no expiry has to be removed.
        """
        if entity_type not in self._lives:
            return b""
        life = self._lives[entity_type]
        if life is None:
            return 0
        ahead = max(0, self._newest[entity_type] - self._now)
        return (life + ahead) // 1_000 + 1


def lives_of(features: Iterable[Feature], aged: Collection[str]) -> dict[str, int | None]:
    """How long values of an entity are kept at most (None: for ever), for entity types that ever had an age."""
    ages: dict[str, list[int | None]] = {entity_type: [] for entity_type in aged}
    for feature in features:
        if feature.entity in ages:
            ages[feature.entity].append(feature.kept_age)
    return {
        entity_type: None if not of_type or None in of_type else max(age for age in of_type if age is not None)
        for entity_type, of_type in ages.items()
    }


def carrying(shapes: Shapes, parts: Iterable[LoadedRows]) -> list[Command]:
    """Commands that write rows with the arrivals that they have."""
    rows: dict[tuple[str, str], list[bytes]] = {}
    for table, arrivals in parts:
        for group, number in placed([table], shapes.number):
            head = _SHAPE.pack(number)
            columns = table.times.tolist(), arrivals.tolist(), payloads_of(group)
            for entity, time, arrived, payload in zip(table.entities, *columns, strict=True):
                row = head + moment(time) + moment(arrived) + payload
                rows.setdefault((table.entity_type, entity), []).append(row)
    return [call("carry", keys_of(*entity), *of_entity) for entity, of_entity in rows.items()]


class _Found(NamedTuple):
    """Rows of one shape. `owners`: positions of entities; `rows`: event time, arrival, payload, concatenated."""

    owners: list[int]
    rows: list[bytes]


class _Range(NamedTuple):
    """Rows of an entity and shape that are still to be read, from `begin` on. `longest`: most bytes of one row."""

    owner: int
    number: int
    begin: bytes
    longest: int


class LatestCommands(NamedTuple):
    """A request for newest rows: the version of the shapes, the shapes for each query, and the commands."""

    version: bytes
    numbers: Sequence[Sequence[int]]
    commands: Sequence[Command]


class RowReader:
    """Queries rows and converts them to columns."""

    def __init__(self, link: RedisLink, shapes: Shapes, most_bytes: int) -> None:
        """`most_bytes`: the limit for the rows of a range."""
        self._link = link
        self._shapes = shapes
        self._most_bytes = most_bytes

    def latest(self, questions: Sequence[LatestQuestion]) -> LatestAnswers:
        """Answer queries for latest values with event time <= at in one visit, or two for moments in the past."""
        while True:
            asked = self.asking(questions)
            replies = self._link.ask(asked.commands)
            if asked.version == (replies[0][0] or b"0"):
                break
            self._shapes.load()
        found, late = self._sorted_out(questions, asked, replies)
        for (place, owner, number, _), rows in zip(late, self._link.ask([one[3] for one in late]), strict=True):
            if rows:
                _note(found[place], number, owner, rows[0][4:])
        return self._answers(questions, found, replies)

    def asking(self, questions: Sequence[LatestQuestion]) -> LatestCommands:
        """The request for the newest rows of all queries."""
        known = self._shapes.known
        numbers = [known.holding(one.entity_type, one.features) for one in questions]
        commands = [_VERSION, LAST_ARRIVAL]
        for question, of_question in zip(questions, numbers, strict=True):
            shapes = list(map(_SHAPE.pack, of_question))
            if shapes:
                for entity in question.entities:
                    newest, _ = keys_of(question.entity_type, entity)
                    commands.append(Command(newest, ("HMGET", newest, *shapes)))
        return LatestCommands(known.version, numbers, commands)

    def answered(
        self, questions: Sequence[LatestQuestion], asked: LatestCommands, replies: Sequence[Any]
    ) -> LatestAnswers | None:
        """The answers from the replies; None if they do not suffice: shapes changed, or older rows are needed."""
        if asked.version != (replies[0][0] or b"0"):
            return None
        found, late = self._sorted_out(questions, asked, replies)
        return None if late else self._answers(questions, found, replies)

    def _sorted_out(
        self, questions: Sequence[LatestQuestion], asked: LatestCommands, replies: Sequence[Any]
    ) -> tuple[list[dict[int, _Found]], list[tuple[int, int, int, Command]]]:
        """For each query its newest rows; and where these are too new: query, entity, shape, and a command for
        older ones."""
        answers, last = iter(replies[2:]), last_arrival(replies[1])
        found: list[dict[int, _Found]] = [{} for _ in questions]
        late = []
        for place, (question, numbers) in enumerate(zip(questions, asked.numbers, strict=True)):
            present = max(question.at, last) if question.current else question.at
            of_question, at = found[place], moment(present)
            for owner, entity in enumerate(question.entities if numbers else ()):
                for number, row in zip(numbers, next(answers), strict=True):
                    if row is None:
                        continue
                    if row[:8] <= at:
                        _note(of_question, number, owner, row)
                    else:
                        history = keys_of(question.entity_type, entity)[1]
                        late.append((place, owner, number, _before(history, number, present)))
        return found, late

    def _answers(
        self, questions: Sequence[LatestQuestion], found: Sequence[Mapping[int, _Found]], replies: Sequence[Any]
    ) -> LatestAnswers:
        return LatestAnswers(
            int(replies[0][1] or 0),
            [
                newest_of(question, self._parts(of_question, question.features))
                for question, of_question in zip(questions, found, strict=True)
            ],
        )

    def ranges(self, features: Sequence[Feature], entities: Sequence[str], start: int, end: int) -> list[Rows]:
        """For each feature every version with start <= event time <= end, in order of arrival.

        Slots are positions in `entities`. Raises TooLarge.
        """
        while (found := self._ranges(features, entities, start, end)) is None:
            self._shapes.load()
        parts = self._parts(found, features)
        return [rows_of(feature, parts[feature.created]) for feature in features]

    def _ranges(
        self, features: Sequence[Feature], entities: Sequence[str], start: int, end: int
    ) -> dict[int, _Found] | None:
        """The rows by shape; None if there are shapes that are not known yet."""
        entity_type, known = features[0].entity, self._shapes.known
        histories = [keys_of(entity_type, entity)[1] for entity in entities]
        amount = Amount(features[0].id, MAX_ROWS_FROM_SHARED, self._most_bytes)
        found: dict[int, _Found] = {}
        numbers = known.holding(entity_type, features)
        longest = {number: HEAD_BYTES + known.shapes[number][1].most_bytes for number in numbers}
        waiting = deque(
            _Range(owner, number, _SHAPE.pack(number) + moment(start), longest[number])
            for owner in range(len(entities))
            for number in numbers
        )
        version = [_VERSION]
        while waiting or version:
            visit, most = _of_a_visit(waiting)
            commands = [_between(histories[wanted.owner], wanted, end, most) for wanted in visit]
            replies = self._link.ask([*version, *commands])
            if version and (replies.pop(0)[0] or b"0") != known.version:
                return None
            version = []
            for wanted, rows in zip(visit, replies, strict=True):
                amount.add(len(rows), sum(map(len, rows)))
                for row in rows:
                    _note(found, wanted.number, wanted.owner, row[4:])
                if len(rows) == most:
                    waiting.append(wanted._replace(begin=_after(rows[-1])))
        return found

    def _parts(self, found: Mapping[int, _Found], features: Sequence[Feature]) -> dict[int, list[Part]]:
        parts: dict[int, list[Part]] = {feature.created: [] for feature in features}
        for number, (owners, rows) in found.items():
            heads = np.frombuffer(b"".join([row[:HEAD_BYTES] for row in rows]), ">u8").reshape(-1, 2)
            # Flips the sign bit, which undoes the bias of `moment`.
            times, arrived = (
                (heads[:, place].astype(np.uint64) ^ np.uint64(_BIAS)).view(np.int64) for place in (0, 1)
            )
            payloads = [row[HEAD_BYTES:] for row in rows]
            for created, column in unpacked(self._shapes.of(number), payloads, set(parts)).columns.items():
                if created in parts:
                    parts[created].append(Part(np.array(owners, np.int64), times, arrived, *column))
        return parts


_VERSION = Command(ROOT, ("HMGET", VERSIONS, "shapes", "registry"))
LAST_ARRIVAL = Command(ROOT, ("ZSCORE", ROOT + b":arrived", "last"))


def last_arrival(reply: Any) -> int:
    """The reply to LAST_ARRIVAL; 0 if nothing has arrived. Scores are float64, and exact up to 2**53."""
    return int(float(reply or 0))


def _note(found: dict[int, _Found], number: int, owner: int, row: bytes) -> None:
    of_shape = found.get(number)
    if of_shape is None:
        of_shape = found[number] = _Found([], [])
    of_shape.owners.append(owner)
    of_shape.rows.append(row)


def _before(history: bytes, number: int, at: int) -> Command:
    shape = _SHAPE.pack(number)
    return Command(
        history,
        ("ZREVRANGEBYLEX", history, b"(" + shape + moment(at + 1), b"[" + shape, "LIMIT", 0, 1),
    )


def _of_a_visit(waiting: deque[_Range]) -> tuple[list[_Range], int]:
    """The ranges for the next visit, and how many rows to read of each, so that a visit is bounded."""
    visit, size = list[_Range](), 0
    while waiting and (not visit or size + waiting[0].longest <= VISIT_BYTES):
        size += waiting[0].longest
        visit.append(waiting.popleft())
    return visit, min(MAX_ROWS_FROM_SHARED + 1, max(1, VISIT_BYTES // max(size, 1)))


def _after(row: bytes) -> bytes:
    """Where the rows after this one begin; no two rows of a shape have the same event time and arrival."""
    head = row[: _SHAPE.size + HEAD_BYTES]
    return (int.from_bytes(head, "big") + 1).to_bytes(len(head), "big")


def _between(history: bytes, asked: _Range, end: int, most: int) -> Command:
    shape = _SHAPE.pack(asked.number)
    last = b"[" + shape + b"\xff" * 9 if end >= FOREVER else b"(" + shape + moment(end + 1)
    return Command(history, ("ZRANGEBYLEX", history, b"[" + asked.begin, last, "LIMIT", 0, most))


def split_row(row: bytes) -> tuple[int, int, int, bytes]:
    """Split a row of the history into shape, event time, arrival and payload."""
    number, time, arrived = struct.unpack(">IQQ", row[:20])
    return number, time - _BIAS, arrived - _BIAS, row[20:]
