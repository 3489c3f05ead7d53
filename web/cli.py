"""The `timewell` command of the server."""

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
    """Run a command to its exit code; `timewell.commands.exits` says what they mean."""
    parsed = _parser().parse_args(arguments)
    if parsed.command == "serve":
        return _serve({name: value for name, value in vars(parsed).items() if name != "command"})
    return attempt(parsed.run, parsed)


def _serve(flags: dict[str, Any]) -> int:
    """Run the service until it is told to stop. What it takes to run one is imported only for it."""
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
    parser, commands = cli.new_parser("the service, and commands that speak to one", "timewell")
    command = commands.add_parser(
        "serve",
        help="run the service",
        description="Run the service. Each flag can be given as an environment variable of its name in capitals.",
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
    """Name, placeholder, words and default of every setting."""
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
    """What stands for a value: its unit, which a setting has in its name."""
    last = name.rpartition("_")[2]
    if last in _UNITS:
        return _UNITS[last]
    return {int: "N", float: "SHARE", bool: "true|false", str: "TEXT"}[kind]


_UNITS = {"seconds": "SECONDS", "bytes": "BYTES", "url": "URL", "dir": "DIRECTORY", "host": "ADDRESS"}


if __name__ == "__main__":
    sys.exit(main())
