"""The whole `timewell` command: the client's commands, `serve`, and those that work on a storage itself."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, get_args, get_type_hints

import msgspec

from actors.settings import Settings, from_environment
from timewell import cli
from timewell.commands.exits import attempt
from web.commands import check_data, migrate

COMMANDS = (*cli.COMMANDS, migrate, check_data)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; `timewell.commands.exits` says what the codes mean."""
    parsed = _parser().parse_args(arguments)
    if parsed.command == "serve":
        return _serve({name: value for name, value in vars(parsed).items() if name != "command"})
    return attempt(parsed.run, parsed)


def _serve(flags: dict[str, Any]) -> int:
    """Run the service until it is told to stop. Its imports are here so that the other commands start fast."""
    import trio

    from actors.errors import TimewellError
    from actors.storage.embedded.directory import create_privately
    from web import logs
    from web.process import serve

    try:
        settings = from_environment(os.environ, flags)
        create_privately()
        logs.configure(settings)
        trio.run(serve, settings)
    except TimewellError as error:
        print(f"timewell: {error.detail}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser, commands = cli.new_parser("Run the service, or a command against one that runs.", "timewell")
    command = commands.add_parser(
        "serve",
        help="run the service",
        description="Run the service. Each flag can also be set as an environment variable: its name in capitals,"
        " with underscores.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for name, about in describe_settings():
        flag = "--" + name.replace("_", "-")
        command.add_argument(
            flag,
            metavar=about["metavar"],
            help=f"{about['help']} (default: {about['default']})",
            default=argparse.SUPPRESS,
        )
    for module in COMMANDS:
        module.add(commands)
    return parser


def describe_settings() -> list[tuple[str, dict[str, Any]]]:
    """Every setting with its placeholder, help text and default."""
    hints = get_type_hints(Settings, include_extras=True)
    return [
        (field.name, _describe(field.name, hints[field.name], field.default))
        for field in msgspec.structs.fields(Settings)
    ]


def _describe(name: str, hint: Any, default: object) -> dict[str, Any]:
    kind, meta = get_args(hint)
    choices = get_args(kind)
    metavar = "|".join(choices) if choices else _placeholder(name, kind)
    shown = str(default).lower() if isinstance(default, bool) else default
    return {"metavar": metavar, "help": meta.description, "default": shown}


def _placeholder(name: str, kind: type) -> str:
    """What stands for a value in `--help`: its unit, with which the setting's name ends, else its type."""
    last = name.rpartition("_")[2]
    if last in _UNITS:
        return _UNITS[last]
    return {int: "N", float: "SHARE", bool: "true|false", str: "TEXT"}[kind]


_UNITS = {"seconds": "SECONDS", "bytes": "BYTES", "url": "URL", "dir": "DIRECTORY", "host": "ADDRESS"}


if __name__ == "__main__":
    sys.exit(main())
