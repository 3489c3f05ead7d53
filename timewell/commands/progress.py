"""A progress bar on stderr, with rate and remaining time; nothing if stderr is not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Tell = Callable[[int, float | None], None]
"""Called with the number of rows done and the share of the work, from 0 to 1, or None if that is unknown."""


@contextmanager
def progress(label: str) -> Iterator[Tell]:
    """Show a progress bar during the block."""
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
        task = bar.add_task(label, total=None, rows=0, rate=0.0)

        def tell(rows: int, share: float | None) -> None:
            elapsed = bar.tasks[0].elapsed or 0.0
            total = None if share is None else 1.0
            bar.update(task, total=total, completed=share, rows=rows, rate=rows / elapsed if elapsed else 0.0)

        yield tell
