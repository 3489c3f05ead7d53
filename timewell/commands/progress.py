"""A bar on stderr for what takes long: how far, how fast, how long still. None where stderr is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Tell = Callable[[int, float], None]
"""Says how many rows are done, and which share of the work that is."""


@contextmanager
def progress(label: str) -> Iterator[Tell]:
    """A bar while the context lasts."""
    if not sys.stderr.isatty():
        yield lambda rows, share: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} rows, {task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=1.0, rows=0, rate=0.0)

        def tell(rows: int, share: float) -> None:
            elapsed = bar.tasks[0].elapsed or 0.0
            bar.update(task, completed=share, rows=rows, rate=rows / elapsed if elapsed else 0.0)

        yield tell
