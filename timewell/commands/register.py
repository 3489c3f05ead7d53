"""`timewell register`: register or update what a file declares."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from timewell.commands.options import Subparsers, add_command, client_of
from timewell.commands.output import cell, show_json, show_table
from timewell.commands.registration_file import FileFault, RegistrationFile

if TYPE_CHECKING:
    from timewell.wire import RegistrationOutcome, RegistrationsAnswer

MORE = """\
The file is YAML or JSON, with the fields of the routes for registering:

  entities:
    - {name: user_shop, keys: [user, shop]}
  features:
    - {name: purchases_7d, entity: user, valueType: number, schema: {min: 0}, tags: [shop]}
    - {name: country, entity: user, valueType: string, maxAge: 90d}
    - {name: visits_30d, entity: user_shop, valueType: integer}
    - {name: country, entity: user, valueType: string, version: 2, promoted: false}
  groups:
    - {name: checkout, entity: user, features: [purchases_7d, country]}
  services:
    - name: fraud
      features:
        - user.purchases_7d
        - {ref: user.country, key: payee, as: payee_country}
        - user_shop.visits_30d

A list of all kinds without these headings is accepted too. The whole file is checked before anything is
registered, all that is wrong is told, and it is registered as a whole or not at all. --dry-run tells what would
change. Registering a file again changes nothing: groups and services keep the versions that their references
meant, and a version that has been promoted stays so, though it began with promoted: false. What the file leaves
out of a feature stays as it is, and what is not in the file stays registered."""


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    about = "register the entity types, features, groups and services of a file"
    parser = add_command(commands, "register", run, about, MORE)
    parser.add_argument("-f", "--file", required=True, metavar="FILE", help="YAML or JSON; - is stdin")
    parser.add_argument("--dry-run", action="store_true", help="only tell what would change")


def run(asked: Namespace) -> None:
    """Register what the file declares, and print the outcome of each."""
    from timewell.errors import TimewellError

    content = sys.stdin.buffer.read() if asked.file == "-" else Path(asked.file).read_bytes()
    file = RegistrationFile("stdin" if asked.file == "-" else asked.file, content)
    if file.faults:
        raise file.refusal([*file.faults, *_found_by_service(asked, file)])
    with client_of(asked) as client:
        try:
            answer = client.register_together(**file.items, dry_run=asked.dry_run)
        except TimewellError as error:
            if not error.errors:
                raise
            raise file.refusal([FileFault(fault.field, fault.message) for fault in error.errors]) from None
    if asked.json:
        show_json(answer)
    else:
        _show(answer, "WOULD BE" if asked.dry_run else "OUTCOME")


def _found_by_service(asked: Namespace, file: RegistrationFile) -> list[FileFault]:
    """What the service finds wrong with what is sound in a file that has faults; nothing if it cannot be asked."""
    from timewell.client import Client
    from timewell.errors import TimewellError

    sound = file.sound()
    places = {f"{kind}[{at}]": f"{kind}[{own}]" for kind, items in sound.items() for at, own in enumerate(items)}
    try:
        with Client(asked.url, retry_seconds=0) as client:
            client.register_together(**{kind: [*items.values()] for kind, items in sound.items()}, dry_run=True)
    except TimewellError as error:
        found = []
        for fault in error.errors:
            place, bracket, rest = fault.field.partition("]")
            found.append(FileFault(places.get(place + bracket, place + bracket) + rest, fault.message))
        return found
    return []


def _show(answer: RegistrationsAnswer, heading: str) -> None:
    kinds = {
        "entity": answer.entities,
        "feature": answer.features,
        "group": answer.groups,
        "service": answer.services,
    }
    rows = [(kind, one.id, one.outcome, _changes(one)) for kind, outcomes in kinds.items() for one in outcomes]
    if any(changes for *_, changes in rows):
        show_table(("KIND", "ID", heading, "CHANGES"), rows)
    else:
        show_table(("KIND", "ID", heading), [row[:3] for row in rows])


def _changes(one: RegistrationOutcome) -> str:
    return "; ".join(f"{change.field}: {cell(change.before)} -> {cell(change.after)}" for change in one.changes)
