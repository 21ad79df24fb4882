"""Folding journals into the store beside the training: one thread, there only while there is work."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

MAX_WAITING = 4  # journals on the disk; beyond that, recording waits, or the disk would fill with them
Block = TypeVar("Block")


class Folder(Generic[Block]):
    """Folds blocks of rows one after another in a thread.

    Parameters
    ----------
    fold
        Writes the rows of a block, such as a journal, into the store.
    max_waiting
        Blocks that may wait; beyond that, adding one waits.
    """

    def __init__(self, fold: Callable[[Block], None], max_waiting: int = MAX_WAITING) -> None:
        """Nothing is started before there is work."""
        self._fold = fold
        self._max_waiting = max_waiting
        self._waiting: deque[Block] = deque()
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._running = False

    def add(self, block: Block) -> None:
        """Have a block folded; waits only where too many are waiting already."""
        with self._changed:
            self._waiting.append(block)
            self._start()
            self._changed.wait_for(lambda: len(self._waiting) <= self._max_waiting or not self._running)

    def check(self) -> None:
        """Raise what went wrong since the last call, once, and try that block again.

        What ends a process, and is no `Exception`, is raised by every call, and nothing is tried again.
        """
        if self._error is not None:
            with self._changed:
                error = self._taken_error()
                self._start()
            if error is not None:
                raise error

    def drain(self) -> None:
        """Wait until all is folded; raise what goes wrong as `check` does, and leave the rest waiting."""
        with self._changed:
            if self._error is None:
                self._start()
            self._changed.wait_for(lambda: not self._running)
            error = self._taken_error()
        if error is not None:
            raise error

    def _taken_error(self) -> BaseException | None:
        """Give what went wrong, and forget it, but what ends a process: after that nothing is tried again."""
        error = self._error
        if isinstance(error, Exception):
            self._error = None
        return error

    def _start(self) -> None:
        ended = self._error is not None and not isinstance(self._error, Exception)
        if self._waiting and not self._running and not ended:
            self._running = True
            self._error = None
            # A daemon: a process that ends without closing its recording leaves the rest to the journals.
            threading.Thread(target=self._run, name="koopscope-fold", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._running = False
                    self._changed.notify_all()
                    return
                block = self._waiting[0]
            try:
                self._fold(block)
            except BaseException as error:
                with self._changed:
                    self._error, self._running = error, False
                    self._changed.notify_all()
                return
            with self._changed:
                self._waiting.popleft()
                self._changed.notify_all()
