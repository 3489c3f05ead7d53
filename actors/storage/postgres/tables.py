"""The tables in PostgreSQL, in a schema of their own, and their migrations.

clock      one row. Every commit locks it first, which puts the commits of all processes in a total order:
           `arrived` of a commit is later than that of every commit before. `registry` counts changes of what is
           registered, `notes` changes of the monitor's notes.
rows       the observations (`packed.py`), hash-partitioned by entity id. Rows are never updated: the newest row of
           an entity and shape is the first one in the index, and a correction is one more row.
catalogue  entity types and feature services
shapes     the features whose values a row of each shape has
writers    one row for each process that writes, with the position that its part of the statistics covers
batches    the batches that each writer's statistics do not cover yet, without entity ids
summaries  the statistics, merged over all writers
forgotten  the deleted features whose rows have yet to be removed

The others are records by key: features and groups, the monitor's notes, and answers to idempotency keys.
"""

from __future__ import annotations

from typing import Any

import psycopg

from actors.errors import StartupError

SCHEMA = "timewell"
PARTITIONS = 8
_MIGRATIONS_LOCK = 7_268_913_001

_FIRST = f"""
CREATE TABLE clock (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    arrived bigint NOT NULL, registry bigint NOT NULL, notes bigint NOT NULL
);
INSERT INTO clock VALUES (true, 0, 0, 0);
CREATE TABLE features (id text PRIMARY KEY, created bigint NOT NULL, record bytea NOT NULL);
CREATE TABLE groups (name text PRIMARY KEY, record bytea NOT NULL);
CREATE TABLE notes (kind text, key text, record bytea NOT NULL, PRIMARY KEY (kind, key));
CREATE TABLE answers (key text PRIMARY KEY, arrived bigint NOT NULL, answer bytea NOT NULL);
CREATE TABLE forgotten (created bigint PRIMARY KEY, feature text NOT NULL, entity text NOT NULL);
CREATE TABLE shapes (
    number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entity text NOT NULL, members bigint[] NOT NULL, kinds text[] NOT NULL,
    UNIQUE (entity, members)
);
CREATE TABLE rows (
    shape integer NOT NULL, entity text COLLATE "C" NOT NULL, time bigint NOT NULL, arrived bigint NOT NULL,
    payload bytea NOT NULL
) PARTITION BY HASH (entity);
{
    "".join(
        f"CREATE TABLE rows_{part} PARTITION OF rows FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {part});"
        for part in range(PARTITIONS)
    )
}
CREATE INDEX rows_by_entity ON rows (entity, shape, time, arrived);
CREATE TABLE writers (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, position bigint NOT NULL
);
CREATE TABLE batches (
    writer integer NOT NULL, arrived bigint NOT NULL, count integer NOT NULL, blocks bytea NOT NULL,
    PRIMARY KEY (writer, arrived)
);
ALTER TABLE batches ALTER COLUMN blocks SET STORAGE EXTERNAL;
CREATE TABLE windows (
    feature text, created bigint, width bigint, start bigint, state bytea NOT NULL,
    PRIMARY KEY (feature, created, width, start)
);
"""

_SECOND = "ALTER TABLE windows RENAME TO summaries;"
"""Summaries are compressed from here on. A process of an earlier version, which cannot read them, finds no
table."""

_THIRD = """
ALTER TABLE shapes DROP CONSTRAINT IF EXISTS shapes_entity_members_key;
CREATE INDEX IF NOT EXISTS shapes_by_members ON shapes (entity, hash_array_extended(members, 0));
"""
"""The members of a shape of thousands of features do not fit into an index row. Shapes are unique nevertheless, as
they are inserted under the clock's lock."""

_FOURTH = "CREATE TABLE catalogue (kind text, name text, record bytea NOT NULL, PRIMARY KEY (kind, name));"

MIGRATIONS = (_FIRST, _SECOND, _THIRD, _FOURTH)
"""All migrations, from an empty schema on. A released one is never changed, only followed by another."""


def has_tables(connection: psycopg.Connection[Any]) -> bool:
    """Whether Timewell's tables exist."""
    found = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (f"{SCHEMA}.version",)).fetchone()
    return bool(found and found[0])


def migrate(connection: psycopg.Connection[Any]) -> None:
    """Create or migrate the tables. Raises StartupError if they are of a later version than this code knows."""
    with connection.transaction():
        # One process at a time; taken before anything is read.
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATIONS_LOCK,))
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        connection.execute(f"SET LOCAL search_path TO {SCHEMA}")
        connection.execute("CREATE TABLE IF NOT EXISTS version (number integer NOT NULL)")
        found = connection.execute("SELECT max(number) FROM version").fetchone()
        version = (found[0] if found else None) or 0
        if version > len(MIGRATIONS):
            raise StartupError(
                f"the tables in PostgreSQL are of form {version}, this Timewell knows {len(MIGRATIONS)}: upgrade"
            )
        for number, migration in enumerate(MIGRATIONS[version:], version + 1):
            connection.execute(migration)
            connection.execute("INSERT INTO version VALUES (%s)", (number,))
