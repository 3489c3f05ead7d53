"""`timewell delete`: delete a feature with its values, or a group, a service, an entity type, a training set."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from timewell.commands.confirming import add_yes, confirm
from timewell.commands.exits import Failed, Misused
from timewell.commands.options import Subparsers, add_command, client_of
from timewell.commands.output import show_json, show_pairs

if TYPE_CHECKING:
    from timewell.client import Client
    from timewell.wire import UsedBy

MORE = """\
A feature is given by its id, entity.name.vN, and its values go with it. One that a group, a service, a kept
training set or a definition reads is deleted with --force only: groups lose it then, and the others that read it
cannot be read any more. Groups, services, training sets and entity types have no values; features that they read
stay. An entity type must have no features."""


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    about = "delete a feature with its values, a group, a service, a training set or an entity type"
    parser = add_command(commands, "delete", run, about, MORE)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("feature", metavar="FEATURE", nargs="?", help="a feature by its id")
    what.add_argument("--group", metavar="NAME", help="a group")
    what.add_argument("--service", metavar="NAME.vN", help="a version of a service")
    what.add_argument("--training-set", metavar="NAME", help="a kept training set")
    what.add_argument("--entity-type", metavar="NAME", help="an entity type")
    parser.add_argument("--force", action="store_true", help="a feature, even if something reads it")
    add_yes(parser)


def run(asked: Namespace) -> None:
    """Delete it, once the user means it."""
    if asked.force and asked.feature is None:
        raise Misused("--force belongs to a feature")
    with client_of(asked) as client:
        kind, name = _delete(client, asked)
    if asked.json:
        show_json({"deleted": {"kind": kind, "id": name}})
    else:
        show_pairs([("deleted", f"{kind} {name}")])


def _delete(client: Client, asked: Namespace) -> tuple[str, str]:
    """Delete what is asked; returns its kind and name."""
    if asked.group is not None:
        client.group(asked.group)
        confirm(f"this deletes group {asked.group}", asked.yes)
        client.delete_group(asked.group)
        return "group", asked.group
    if asked.service is not None:
        client.service(asked.service)
        confirm(f"this deletes service {asked.service}", asked.yes)
        client.delete_service(asked.service)
        return "service", asked.service
    if asked.training_set is not None:
        client.kept_training_set(asked.training_set)
        confirm(f"this deletes training set {asked.training_set}", asked.yes)
        client.delete_training_set(asked.training_set)
        return "training set", asked.training_set
    if asked.entity_type is not None:
        client.entity_type(asked.entity_type)
        confirm(f"this deletes entity type {asked.entity_type}", asked.yes)
        client.delete_entity_type(asked.entity_type)
        return "entity type", asked.entity_type
    _delete_feature(client, asked.feature, asked.force, asked.yes)
    return "feature", asked.feature


def _delete_feature(client: Client, id_: str, force: bool, yes: bool) -> None:
    found = client.feature(id_)
    if found.id != id_:
        raise Failed(f"{id_}: name one version to delete, such as {found.id}")
    readers = _readers(client.used_by(id_))
    if readers and not force:
        raise Failed(f"{id_} is read by {readers}; --force deletes it all the same")
    confirm(f"this deletes {id_} and its values" + (f", though it is read by {readers}" if readers else ""), yes)
    client.delete_feature(id_, force=force)


def _readers(used_by: UsedBy) -> str:
    """What stands on the feature; its checks go with it."""
    kinds = {
        "group": used_by.groups,
        "service": used_by.services,
        "feature": used_by.features,
        "training set": used_by.training_sets,
    }
    return ", ".join(f"{kind} {name}" for kind, names in kinds.items() for name in names)
