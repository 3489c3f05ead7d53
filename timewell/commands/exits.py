"""How a command ends: its exit code, and one message on stderr where it did not do what it should."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable

DONE, FAILED, MISUSED, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130
MEANINGS = """\
exit codes:
  0    done
  1    the service refused or failed, or a file or a value in it is at fault; stderr names it
  2    the command line was not understood
  3    the service cannot be reached
  130  interrupted
"""
MOST_FAULTS_SHOWN = 10


class Failed(Exception):
    """It cannot be done; the message names the input at fault."""


class Misused(Exception):
    """The arguments do not fit together, or not the feature that they are about."""


def attempt(run: Callable[[Namespace], None], asked: Namespace) -> int:
    """Run a command to its exit code. The notes of what ended it are said after it."""
    try:
        run(asked)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads has read enough; what else is printed goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (KeyboardInterrupt, Exception) as error:
        code = _told(error, asked)
        for note in getattr(error, "__notes__", ()):
            say(note)
        return code
    return DONE


def say(message: str) -> None:
    """A message for a person."""
    print(f"timewell: {message}", file=sys.stderr)


def _told(error: BaseException, asked: Namespace) -> int:
    """Say what ended a command; its exit code. Raises what is none of these: it is a bug."""
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
    from timewell.errors import TimewellError, Unreachable, shown_address

    if isinstance(error, Unreachable):
        say(f"{shown_address(asked.url)}: {error.detail}")
        return UNREACHABLE
    if not isinstance(error, TimewellError):
        raise error
    say(error.detail)
    for fault in error.errors[1 : MOST_FAULTS_SHOWN + 1]:
        where = fault.field if fault.index is None else f"[{fault.index}].{fault.field}"
        print(f"  {where}: {fault.message}", file=sys.stderr)
    return FAILED
