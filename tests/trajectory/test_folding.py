"""The folding thread: what goes wrong in it is told once and tried again, unless it is the end."""

from __future__ import annotations

import threading

import pytest

from koopscope.trajectory.folding import Folder


def test_folder__an_error_is_told_once_and_the_block_tried_again():
    done, errors = [], [OSError("full"), OSError("still full")]
    all_there = threading.Event()  # adding a block tries again too

    def fold(block):
        all_there.wait(60)
        if block == 2 and errors:
            raise errors.pop(0)
        done.append(block)

    folder = Folder(fold)
    for block in (1, 2, 3):
        folder.add(block)
    all_there.set()
    for _ in range(2):
        with pytest.raises(OSError, match="full"):
            folder.drain()
    folder.drain()
    assert done == [1, 2, 3]


def test_folder__after_what_ends_a_process_nothing_is_tried_again():
    class End(BaseException):
        pass

    tried = []

    def fold(block):
        tried.append(block)
        raise End

    folder = Folder(fold)
    folder.add(1)
    for _ in range(2):
        with pytest.raises(End):
            folder.drain()
        folder.add(2)
        with pytest.raises(End):
            folder.check()
    assert tried == [1]
