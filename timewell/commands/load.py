"""`timewell load`: a file of rows into features, however long, to be gone on with after an interruption."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING, Any

from timewell.commands.exits import Failed, say
from timewell.commands.options import Subparsers, add_command, file_of

if TYPE_CHECKING:
    from timewell.commands.load_parts import Plan
    from timewell.commands.load_state import State, StateFile
    from timewell.commands.service import TableClient

MORE = """\
The file is read and sent in parts of about 50,000 rows, each taken whole or refused whole. Rows are counted from
1, without the header.

A missing value (null, NaN, an empty field of a CSV) is not written, so that an older one goes on being the latest;
how many there were is said at the end. --nulls write writes a null in its place. So is how many values later rows
of the same part, entity and moment replaced.

An interrupted load goes on where it stopped when the same command is run again; nothing is written twice. How far
it came stands in a small file in the user's cache directory (XDG_CACHE_HOME/timewell/load), which is removed once
the load is done. After a bad row, mend the file and run the same command again. The same rows loaded again within
24 hours are known to the service and not written again, also where an entity of theirs has been erased since: the
answer says so, and --restart writes them anew."""


def add(commands: Subparsers) -> None:
    """What it takes."""
    parser = add_command(commands, "load", run, "write a file of rows: a column per feature", MORE)
    endings = (".csv", ".csv.gz", ".parquet", ".ndjson", ".ndjson.gz")
    parser.add_argument("file", type=file_of(*endings), metavar="FILE", help=f"ends in {', '.join(endings)}")
    parser.add_argument("--entity", required=True, help="the entity type that the rows are about")
    add_key_columns(parser)
    parser.add_argument(
        "--columns",
        type=_columns,
        metavar="A,B=REF",
        help="the columns to write; one whose feature has another name as COLUMN=REFERENCE (default: all others)",
    )
    parser.add_argument(
        "--nulls",
        choices=("skip", "write"),
        default="skip",
        help="what to do about missing values (default: %(default)s)",
    )
    parser.add_argument("--restart", action="store_true", help="forget an interrupted load and start over")
    parser.add_argument(
        "--dry-run", action="store_true", help="check columns and types, count rows, write nothing"
    )


def add_key_columns(parser: ArgumentParser) -> None:
    """Which columns say whom and when a row is about."""
    parser.add_argument("--id-column", default="entityId", help="entity ids (default: %(default)s)")
    parser.add_argument("--timestamp-column", default="timestamp", help="moments (default: %(default)s)")
    parser.add_argument(
        "--timestamp-unit", choices=("s", "ms", "us", "ns"), help="what moments that are numbers count since 1970"
    )


def _columns(text: str) -> dict[str, str]:
    """a,b=user.c as columns and their features."""
    found: dict[str, str] = {}
    for one in text.split(","):
        column, _, reference = (part.strip() for part in one.partition("="))
        if not column or column in found or (not reference and "=" in one):
            raise ArgumentTypeError(f"{text!r} is not a list such as a,b or a=user.purchases_7d,b")
        found[column] = reference or column
    return found


def run(asked: Namespace) -> None:
    """Load, or see whether it could be."""
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
    """Go over the file and write nothing."""
    from timewell.arrow import missing_in
    from timewell.commands.load_parts import parts
    from timewell.commands.load_state import State
    from timewell.commands.progress import progress

    rows = values = skipped = 0
    with progress(f"checking {plan.file.path.name}") as tell:
        for _, table in parts(plan):
            rows += table.num_rows
            missing = missing_in(table.columns[2:]) if asked.nulls == "skip" else 0
            values += table.num_rows * (table.num_columns - 2) - missing
            skipped += missing
            tell(rows, plan.file.share())
    _report(plan, asked, State(rows, values, skipped=skipped), dryRun=True)


def _load(client: TableClient, plan: Plan, asked: Namespace) -> None:
    """Send what has not been sent, and remember how far it came."""
    from timewell.commands.load_state import StateFile
    from timewell.errors import shown_address

    registered = sorted((name, one.id, one.created_at) for name, one in plan.features.items())
    keys = (plan.id_column, plan.timestamp_column)
    kept = StateFile(
        str(plan.file.path.resolve()), shown_address(asked.url), keys, [one[:2] for one in registered], asked.nulls
    )
    resumed = 0
    try:
        if asked.restart:
            kept.restart()
        resumed = kept.read().rows
        state = _send(client, plan, kept, [asked.nulls, *(one[1:] for one in registered)], asked.nulls)
    except BaseException as error:
        if not isinstance(error, _Changed) and (done := kept.read().rows):
            error.add_note(f"the first {done:,} rows are written; the same command goes on after them")
        raise
    kept.remove()
    _report(plan, asked, state, resumedAfter=resumed, alreadyLoaded=state.loaded)


def _send(client: TableClient, plan: Plan, kept: StateFile, seed: list[Any], nulls: str) -> State:
    """All parts, without those that are written already. Returns what has been done, by earlier runs too."""
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
                    written, repeated = client.write_table(table, key, nulls)
                except (InvalidInput, TooLarge) as error:
                    raise Failed(blame(plan, error, start)) from None
                missing = missing_in(table.columns[2:]) if nulls == "skip" else 0
                state = state.after(end, digest, written, missing, repeated)
                kept.write(state)
            elif end == state.rows and digest != state.digest:
                break
            tell(end, plan.file.share())
    if end != state.rows or digest != state.digest:
        raise _Changed(plan)
    return state


class _Changed(Failed):
    """What is written already is not what the file begins with."""

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
