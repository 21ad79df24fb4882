"""A disk that fills up, or a process that dies, at a chosen operation on files."""

from __future__ import annotations

import errno
import gc
import os
import threading

from koopscope.trajectory import files


class Killed(BaseException):
    """Stands for SIGKILL: no `except Exception` of the code under test may see it."""


class FaultyDisk:
    """Takes the place of `os` in `koopscope.trajectory.files`, through which every byte is written.

    From operation `at` on (counted from the last `arm`), writes stop half-way and nothing is renamed: with
    ENOSPC, or with `Killed`. `arm(None)` mends it.
    """

    def __init__(self, monkeypatch):
        self._lock = threading.Lock()
        self.operations = 0
        self.failed = False
        self.arm(None)
        monkeypatch.setattr(files, "os", self)
        gc.freeze()  # what there is by now refers to no writer: to search it took most of the time of bury()

    def arm(self, at, *, kill=False):
        with self._lock:
            self._from = self.operations
            self._at = at
            self._kill = kill

    def bury(self):
        """Wait until nothing of a killed writer runs or is referred to, then mend the disk."""
        for thread in threading.enumerate():
            if thread.name == "koopscope-fold":
                thread.join()
        gc.collect()
        self.arm(None)

    def retire(self):
        """Bury, and give back to the collector what was there before this disk."""
        self.bury()
        gc.unfreeze()

    def __getattr__(self, name):
        return getattr(os, name)

    def _fails(self):
        with self._lock:
            self.operations += 1
            return self._at is not None and self.operations - self._from > self._at

    def _fail(self):
        self.failed = True
        if self._kill:
            raise Killed
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def pwrite(self, descriptor, data, offset):
        if self._fails():
            os.pwrite(descriptor, data[: len(data) // 2], offset)
            self._fail()
        return os.pwrite(descriptor, data, offset)

    def replace(self, source, target):
        if self._fails():
            self._fail()
        os.replace(source, target)
