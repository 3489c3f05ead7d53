"""`timewell load`: write a file of any length to features; an interrupted load can be continued."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING, Any

from timewell.commands.exits import Failed, say
from timewell.commands.options import Subparsers, add_command, file_of, pair

if TYPE_CHECKING:
    from timewell.commands.load_parts import Plan
    from timewell.commands.load_state import State, StateFile
    from timewell.commands.service import TableClient

MORE = """\
The file is read and sent in parts of at most 50,000 rows, each written whole or not at all. Rows are counted from
1, without the header.

Ids are in one column, or for an entity type with several keys in one for each: --key user=user_id --key shop=s.

A missing value (null, NaN, an empty field of a CSV) is not written, so an older value remains the latest; --nulls
write writes a null instead. The answer says how many values were missing, and how many were replaced by later rows
with the same entity and timestamp in the same part.

To continue an interrupted load, run the same command again; nothing is written twice. Its progress is kept in a
small file in the user's cache directory (XDG_CACHE_HOME/timewell/load), which is removed once the load is done.
After a bad row, correct the file and run the same command again. If the same rows are loaded again within 24
hours, the service recognises them and does not write them again, even if one of their entities has been erased
since. The answer says so; --restart writes them anew."""


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    parser = add_command(commands, "load", run, "write a file of rows: a column per feature", MORE)
    endings = (".csv", ".csv.gz", ".parquet", ".ndjson", ".ndjson.gz")
    parser.add_argument("file", type=file_of(*endings), metavar="FILE", help=f"ends in {', '.join(endings)}")
    parser.add_argument("--entity", required=True, help="the entity type of the features")
    add_key_columns(parser)
    parser.add_argument(
        "--columns",
        type=_columns,
        metavar="A,B=REF",
        help="the columns to write; COLUMN=REFERENCE if the feature has another name (default: all but the keys)",
    )
    parser.add_argument(
        "--nulls",
        choices=("skip", "write"),
        default="skip",
        help="what to do with missing values (default: %(default)s)",
    )
    parser.add_argument("--restart", action="store_true", help="forget an interrupted load and start over")
    parser.add_argument(
        "--dry-run", action="store_true", help="check columns and types and count rows, but write nothing"
    )


def add_key_columns(parser: ArgumentParser) -> None:
    """Add the options that name the key columns."""
    ids = parser.add_mutually_exclusive_group()
    ids.add_argument("--id-column", default="entityId", help="the column of entity ids (default: %(default)s)")
    ids.add_argument(
        "--key",
        type=pair,
        action="append",
        metavar="KEY=COLUMN",
        help="the column of a key of an entity type; once for each key",
    )
    parser.add_argument(
        "--timestamp-column", default="timestamp", help="the column of timestamps (default: %(default)s)"
    )
    parser.add_argument(
        "--timestamp-unit", choices=("s", "ms", "us", "ns"), help="the unit, if timestamps are numbers since 1970"
    )


def _columns(text: str) -> dict[str, str]:
    """`a,b=user.c` as columns and their features."""
    found: dict[str, str] = {}
    for item in text.split(","):
        column, _, reference = (part.strip() for part in item.partition("="))
        if not column or column in found or (not reference and "=" in item):
            raise ArgumentTypeError(f"{text!r} is not a list such as a,b or a=user.purchases_7d,b")
        found[column] = reference or column
    return found


def run(asked: Namespace) -> None:
    """Load the file, or with --dry-run check whether it could be loaded."""
    from timewell.commands.load_parts import make_plan
    from timewell.commands.service import TableClient

    with TableClient(asked.url, asked.retry_seconds) as client:
        plan = make_plan(client, asked)
        if asked.dry_run:
            _check(plan, asked)
            return
        client.be_patient()
        _load(client, plan, asked)


def _check(plan: Plan, asked: Namespace) -> None:
    """Read the whole file, check it and count, without writing."""
    from timewell.arrow import missing_in
    from timewell.commands.load_parts import parts
    from timewell.commands.load_state import State
    from timewell.commands.progress import progress

    rows = values = skipped = 0
    with progress(f"checking {plan.file.path.name}") as tell:
        for _, table in parts(plan):
            rows += table.num_rows
            columns = plan.values_of(table)
            missing = missing_in(columns) if asked.nulls == "skip" else 0
            values += table.num_rows * len(columns) - missing
            skipped += missing
            tell(rows, plan.file.share())
    _report(plan, asked, State(rows, values, skipped=skipped), dryRun=True)


def _load(client: TableClient, plan: Plan, asked: Namespace) -> None:
    """Send the rows that have not been sent, and remember the progress."""
    from timewell.commands.load_state import StateFile
    from timewell.errors import shown_address

    registered = sorted((column, feature.id, feature.created_at) for column, feature in plan.features.items())
    keys = (*plan.ids.items(), plan.timestamp_column)
    if plan.entity is None:
        keys = (*plan.ids.values(), plan.timestamp_column)
    columns = [(column, id_) for column, id_, _ in registered]
    kept = StateFile(str(plan.file.path.resolve()), shown_address(asked.url), keys, columns, asked.nulls)
    resumed = 0
    try:
        if asked.restart:
            kept.restart()
        resumed = kept.read().rows
        seed = [asked.nulls, *((id_, created_at) for _, id_, created_at in registered)]
        state = _send(client, plan, kept, seed, asked.nulls)
    except BaseException as error:
        if not isinstance(error, _Changed) and (done := kept.read().rows):
            error.add_note(f"the first {done:,} rows are written; the same command goes on after them")
        raise
    kept.remove()
    _report(plan, asked, state, resumedAfter=resumed, alreadyLoaded=state.loaded)


def _send(client: TableClient, plan: Plan, kept: StateFile, seed: list[Any], nulls: str) -> State:
    """Send all parts but those already written. Returns the state, including what earlier runs did."""
    from timewell.arrow import missing_in
    from timewell.commands.load_parts import blame, parts
    from timewell.commands.load_state import Chain
    from timewell.commands.progress import progress
    from timewell.errors import InvalidInput, TooLarge

    state = kept.read()
    chain = Chain(seed, state.salt)
    digest, end = "", 0
    with progress(f"loading {plan.file.path.name}") as tell:
        for start, table in parts(plan):
            digest, end = chain.add(table), start + table.num_rows
            if end > state.rows:
                if start < state.rows:
                    break
                key = f"load-{digest}-{start}-{end}"
                try:
                    written, repeated = client.write_table(table, key, nulls, plan.entity)
                except (InvalidInput, TooLarge) as error:
                    raise Failed(blame(plan, error, start)) from None
                missing = missing_in(plan.values_of(table)) if nulls == "skip" else 0
                state = state.after(end, digest, written, missing, repeated)
                kept.write(state)
            elif end == state.rows and digest != state.digest:
                break
            tell(end, plan.file.share())
    if end != state.rows or digest != state.digest:
        raise _Changed(plan)
    return state


class _Changed(Failed):
    """The file does not begin with the rows that an interrupted load has written."""

    def __init__(self, plan: Plan) -> None:
        reason = "the rows that an interrupted load has written, or their features, are not what they were"
        super().__init__(f"{plan.file.path}: {reason}; --restart writes all rows anew")


def _report(plan: Plan, asked: Namespace, done: State, **more: object) -> None:
    from timewell.commands.output import show_json, show_pairs

    features = {name: feature.id for name, feature in plan.features.items()}
    counts = {"rows": done.rows, "values": done.values, "skipped": done.skipped, "overwritten": done.overwritten}
    answer = {"file": str(plan.file.path), **counts, "features": features, **more}
    if done.overwritten:
        say(f"{done.overwritten} values were replaced by later rows of the same entity and moment")
    if asked.json:
        show_json(answer)
        return
    pairs = [("file", answer["file"]), ("rows", done.rows), ("values", done.values), *features.items()]
    if done.skipped:
        pairs.append(("skipped", f"{done.skipped} missing; --nulls write writes them as nulls"))
    if done.loaded:
        told = "were loaded before and not written again; --restart writes them anew"
        pairs.append(("already loaded", f"{done.loaded} of the values {told}"))
    if more.get("resumedAfter"):
        pairs.append(("rows of earlier runs", more["resumedAfter"]))
    show_pairs([*pairs, ("written", "nothing: this was a dry run")] if asked.dry_run else pairs)
