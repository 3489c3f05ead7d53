"""How a command ends: its exit code, and a message on stderr if it failed."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable

DONE, FAILED, MISUSED, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130
MEANINGS = """\
exit codes:
  0    done
  1    the service refused or failed, or a file has an error; stderr says what is wrong
  2    the command line was not understood
  3    the service cannot be reached
  130  interrupted
"""
MOST_FAULTS_SHOWN = 10


class Failed(Exception):
    """The command cannot be done; the message names the input at fault."""


class Misused(Exception):
    """The arguments do not fit each other, or the feature."""


def attempt(run: Callable[[Namespace], None], asked: Namespace) -> int:
    """Run a command and return its exit code. The notes of an exception are printed after its message."""
    try:
        run(asked)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of stdout has gone; drop the rest of the output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (KeyboardInterrupt, Exception) as error:
        code = _told(error, asked)
        for note in getattr(error, "__notes__", ()):
            say(note)
        return code
    return DONE


def say(message: str) -> None:
    """Print a message to stderr."""
    print(f"timewell: {message}", file=sys.stderr)


def _told(error: BaseException, asked: Namespace) -> int:
    """Print why a command failed and return its exit code. Any other exception is a bug and is raised again."""
    if isinstance(error, KeyboardInterrupt):
        say("interrupted")
        return INTERRUPTED
    if isinstance(error, Misused | Failed):
        say(str(error))
        return MISUSED if isinstance(error, Misused) else FAILED
    if isinstance(error, ModuleNotFoundError):
        say(f"this needs {error.name}, which is not installed")
        return FAILED
    if isinstance(error, OSError):
        say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return FAILED
    from timewell.errors import TimewellError, Unreachable, place_of, shown_address

    if isinstance(error, Unreachable):
        say(f"{shown_address(asked.url)}: {error.detail}")
        return UNREACHABLE
    if not isinstance(error, TimewellError):
        raise error
    say(error.detail)
    for fault in error.errors[1 : MOST_FAULTS_SHOWN + 1]:
        print(f"  {place_of(fault)}: {fault.message}", file=sys.stderr)
    return FAILED
