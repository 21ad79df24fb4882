"""Progress on stderr: a bar on a terminal, one line per tenth elsewhere; stdout stays free for results."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from koopscope.progress import Listener, TenthPrinter


@contextmanager
def at_work() -> Iterator[Listener]:
    """Give a listener for ``progress=``, and send what user code prints meanwhile to stderr.

    A loss callable may print; stdout belongs to the result.
    """
    if not sys.stderr.isatty():
        with redirect_stdout(sys.stderr):
            yield TenthPrinter()
        return
    with _bars() as listener, redirect_stdout(sys.stderr):
        yield listener


@contextmanager
def _bars() -> Iterator[Listener]:
    # On a terminal only: the bar's modules cost time that a script need not pay.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        tasks: dict[str, TaskID] = {}

        def listener(stage: str, done: int, total: int) -> None:
            if total <= 0:
                progress.console.print(stage, markup=False, highlight=False)
                return
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield listener
