"""Long studies in pieces: outcomes are kept in a file, one a line, and only those that are missing are made.

All studies here share the options: ``--keep FILE`` holds the outcomes of earlier pieces, ``--seconds N``
ends a piece, ``--only TEXT`` takes the kinds whose name has the text in it, and ``--seeds A:B`` a range of
seeds. What is printed counts the seeds of that range that are there. Without ``--keep`` one piece does all.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def options(description: str | None, seeds: str) -> argparse.ArgumentParser:
    """Make the options that all studies share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="kinds whose name has this in it")
    parser.add_argument("--seeds", default=seeds, metavar="A:B", help="seeds A to B - 1; default %(default)s")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="outcomes of this and of earlier pieces")
    parser.add_argument("--seconds", type=float, default=float("inf"), metavar="N", help="then end the piece")
    return parser


def seeds_of(text: str) -> range:
    """Read ``A:B``."""
    first, end = text.split(":")
    return range(int(first), int(end))


class Kept:
    """Outcomes by kind and seed; ``missing`` counts those for which there was no time."""

    def __init__(self, path: Path | None, seconds: float) -> None:
        self._path, self._end = path, time.monotonic() + seconds
        self._found: dict[tuple[str, str], Any] = {}
        self.missing = 0
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                kind, seed, outcome = json.loads(line)
                self._found[kind, seed] = outcome

    def outcomes(self, kind: str, seeds: Iterable[object], make: Callable[[Any], Any]) -> list[Any]:
        """Give the outcome of every seed, made where it is missing and there is time."""
        found = []
        for seed in seeds:
            key = kind, str(seed)
            if key not in self._found:
                if time.monotonic() > self._end:
                    self.missing += 1
                    continue
                self._found[key] = make(seed)
                if self._path is not None:
                    with self._path.open("a") as file:
                        file.write(json.dumps([*key, self._found[key]]) + "\n")
            found.append(self._found[key])
        return found
