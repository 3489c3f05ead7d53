"""The registry in PostgreSQL, as of the version that this process last read, and the election of a leader."""

from __future__ import annotations

import msgspec

from actors.domain import Feature, Group, record_of
from actors.storage.postgres.link import Link
from actors.storage.postgres.summaries import Writers
from actors.storage.protocol import Recovered, Versions


class PostgresRegistry:
    """See `SharedRegistry`."""

    def __init__(self, link: Link, writers: Writers) -> None:
        self.versions_seen = 0
        self.leads = writers.leads
        self._link = link

    def registered(self) -> Recovered:
        """Read everything that is registered, as of one moment."""
        row = self._link.read(lambda connection: connection.execute(_REGISTERED).fetchone())
        assert row is not None
        arrived, self.versions_seen, features, groups, catalogue, moment = row
        return Recovered(
            [msgspec.msgpack.decode(record, type=Feature) for record in features or ()],
            [msgspec.msgpack.decode(record, type=Group) for record in groups or ()],
            arrived,
            0,
            min(arrived, moment),
            [record_of(record) for record in catalogue or ()],
        )

    def versions_now(self) -> Versions:
        """Read the versions from the clock's row."""
        row = self._link.read(
            lambda connection: connection.execute("SELECT registry, notes, arrived FROM clock").fetchone()
        )
        assert row is not None
        return Versions(*row)


_REGISTERED = """
SELECT arrived, registry, (SELECT array_agg(record) FROM features), (SELECT array_agg(record) FROM groups),
    (SELECT array_agg(record) FROM catalogue),
    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
FROM clock
"""
