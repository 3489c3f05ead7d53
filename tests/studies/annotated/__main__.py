"""`python -m tests.studies.annotated [WHEEL]` streams the annotated series of the river wheel through the product
and writes tests/studies/results/annotated.md; less than two minutes. Without WHEEL it is downloaded with pip;
river itself is neither installed nor imported.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.live import LiveServer
from tests.studies.annotated import alerts
from tests.studies.annotated.report import ALERTED, Run, document
from tests.studies.annotated.series import read
from tests.studies.annotated.stream import judge

RESULT = Path(__file__).parent.parent / "results" / "annotated.md"


@contextmanager
def wheel_of(arguments: Sequence[str]) -> Iterator[Path]:
    """The wheel that was named, or the newest, in a directory that is removed afterwards."""
    if arguments:
        yield Path(arguments[0])
        return
    with tempfile.TemporaryDirectory(prefix="timewell-river-") as directory:
        print("no wheel was given: downloading one with `pip download river --no-deps`")
        command = ["pip", "download", "river", "--no-deps", "--only-binary=:all:", "--quiet", "--dest", directory]
        subprocess.run([sys.executable, "-m", *command], check=True)
        yield next(Path(directory).glob("river-*.whl"))


def run(wheel: Path) -> Run:
    """Everything, on one service."""
    began = time.monotonic()
    series = read(wheel)
    cases = []
    with tempfile.TemporaryDirectory() as directory, LiveServer(Path(directory), **alerts.SETTINGS) as service:
        for data in series:
            for column in data.values:
                print(f"{data.series.title}: {column}", flush=True)
                cases.append((data, column, judge(service.http, data, column)))
        shown = next(data for data in series if data.series.file == ALERTED)
        print(f"alerts: {ALERTED}", flush=True)
        column = next(iter(shown.values))
        past = alerts.of_the_past(service.http, f"{ALERTED}.{column}_{shown.series.window}.v1")
        fired = alerts.replayed(service.http, shown)
    versions = f"river {wheel.name.split('-')[1]} and Python {platform.python_version()}"
    return Run(cases, past, fired, versions, time.monotonic() - began)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: the results were written."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) > 1 or any(one.startswith("-") for one in given):
        print("usage: python -m tests.studies.annotated [WHEEL]", file=sys.stderr)
        return 2
    with wheel_of(given) as wheel:
        found = run(wheel)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(document(found))
    print(f"{RESULT} in {found.seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
