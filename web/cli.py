"""The `timewell` command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, get_args, get_type_hints

import msgspec
import trio

from actors.errors import StartupError
from actors.settings import Settings, from_environment
from web import logs
from web.serve import serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Exit codes: 0 done, 1 it failed, 2 it was not understood."""
    parsed = _parser().parse_args(arguments)
    flags = {name: value for name, value in vars(parsed).items() if name != "command"}
    try:
        settings = from_environment(os.environ, flags)
        logs.configure(settings)
        trio.run(serve, settings)
    except StartupError as error:
        print(f"timewell: {error.detail}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="timewell", description="A feature store for machine learning.")
    parser.add_argument("--version", action="version", version=f"timewell {version('timewell')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
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
    return parser


def describe_settings() -> list[tuple[str, dict[str, Any]]]:
    """Name, placeholder, words and default of every setting."""
    hints = get_type_hints(Settings, include_extras=True)
    return [
        (field.name, _describe(hints[field.name], field.default)) for field in msgspec.structs.fields(Settings)
    ]


def _describe(hint: Any, default: object) -> dict[str, Any]:
    kind, meta = get_args(hint)
    choices = get_args(kind)
    metavar = "|".join(choices) if choices else {int: "N", float: "SECONDS", bool: "true|false", str: "TEXT"}[kind]
    shown = str(default).lower() if isinstance(default, bool) else default
    return {"metavar": metavar, "help": meta.description, "default": shown}


if __name__ == "__main__":
    sys.exit(main())
