"""`timewell erase`: erase all data about entities, for good."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from timewell.commands.confirming import add_yes, confirm
from timewell.commands.options import Subparsers, add_command, client_of
from timewell.commands.output import show_json, show_table

if TYPE_CHECKING:
    from timewell.client import Client
    from timewell.wire import Erasure

MORE = """\
The observations of all features go from memory, journal and history, and stay gone. What is written of an entity
afterwards is kept. The id of an entity of a type with several keys is the JSON array of its parts, such as
'["u1","m9"]'."""


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    parser = add_command(commands, "erase", run, "erase all data about entities, for good", MORE)
    parser.add_argument("entity", metavar="ENTITY", help="their entity type")
    parser.add_argument("ids", nargs="+", metavar="ID", help="an entity id")
    add_yes(parser)


def run(asked: Namespace) -> None:
    """Erase the entities one after the other, and print how many observations each had."""
    ids = list(dict.fromkeys(asked.ids))
    named = f"{asked.entity} {ids[0]}" if len(ids) == 1 else f"{len(ids)} entities of type {asked.entity}"
    with client_of(asked) as client:
        client.entity_type(asked.entity)
        confirm(f"this erases {named} for good", asked.yes)
        done: list[tuple[str, Erasure]] = []
        for id_ in ids:
            done.append((id_, _erased(client, asked.entity, id_, len(done))))
    if asked.json:
        show_json(
            {"erased": [{"entityId": id_, "deleted": one.deleted, "receipt": one.receipt} for id_, one in done]}
        )
        return
    rows = [(id_, one.deleted.observations, one.deleted.features, one.receipt) for id_, one in done]
    show_table(("ENTITY", "OBSERVATIONS", "FEATURES", "RECEIPT"), rows)


def _erased(client: Client, entity: str, id_: str, before: int) -> Erasure:
    from timewell.errors import TimewellError

    try:
        return client.erase(entity, id_)
    except TimewellError as error:
        error.add_note(f"this was about {entity} {id_}; {before} before it have been erased")
        raise
