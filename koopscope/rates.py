"""What this machine does in a second, measured in less than a second of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache

import numpy as np
import xarray as xr

from koopscope.parallel import single_threaded_blas
from koopscope.trajectory import tensor_names

READ_RATE = 300e6  # bytes a second of compressed chunks with checksums, where nothing may be read
SAMPLE_BYTES = 32 * 2**20  # of weights read to measure how fast they are read
SAMPLE_ROWS = 64  # at least: the rows of a chunk of a large tensor
_SMALL, _LARGE, _GRAM = 8, 64, 100
_STACK = 4
_PARTS = 4  # of the rows that are read
_FRESH = 5 * 2**20  # numbers of an array that no allocator has kept memory for
_SMALL_SECONDS = 7.5e-5  # `Rates.small` of the machine, at the time, on which constants of costs.py were set


@dataclass(frozen=True)
class Rates:
    """Measured rates.

    Attributes
    ----------
    product
        Floating-point operations a second of a float64 matrix product on one core.
    small, large
        Seconds to decompose (singular values and eigenvalues) one matrix of 8 x 8 and one of 64 x 64.
    gram
        Seconds to decompose one symmetric matrix of 100 x 100.
    memory
        Bytes a second of memory that is asked for and filled.
    """

    product: float
    small: float
    large: float
    gram: float
    memory: float

    @property
    def pace(self) -> float:
        """How many times as long as there, and then, computing takes that is not measured by itself."""
        return self.small / _SMALL_SECONDS

    def decomposition(self, d: int) -> float:
        """Seconds to decompose a d x d matrix: ``a d + b d^3`` through the two sizes that were measured."""
        cubic = max(0.0, self.large - self.small * _LARGE / _SMALL) / (_LARGE**3 - _LARGE * _SMALL**2)
        linear = max(0.0, self.small - cubic * _SMALL**3) / _SMALL
        return linear * d + cubic * d**3

    def symmetric(self, n: int) -> float:
        """Seconds to decompose a symmetric n x n matrix."""
        return self.gram * (n / _GRAM) ** 3

    def to_attrs(self) -> dict[str, float]:
        """Give the rates in plain types."""
        return asdict(self)


@cache
def measured_rates() -> Rates:
    """Measure once a process; the fastest of five."""
    random = np.random.default_rng(0)
    matrix = random.normal(size=(400, 400))
    small, large = (random.normal(size=(_STACK, d, d)) for d in (_SMALL, _LARGE))
    symmetric = random.normal(size=(_GRAM, _GRAM))
    symmetric = symmetric @ symmetric.T

    def decompose(stack: np.ndarray) -> None:
        np.linalg.svd(stack)
        np.linalg.eig(stack)

    with single_threaded_blas():
        return Rates(
            product=2 * 400**3 / _seconds(lambda: matrix @ matrix),
            small=_seconds(lambda: decompose(small)) / _STACK,
            large=_seconds(lambda: decompose(large)) / _STACK,
            gram=_seconds(lambda: np.linalg.eigh(symmetric)),
            memory=8 * _FRESH / _seconds(lambda: np.ones(_FRESH)),
        )


def read_rate(trajectory: xr.Dataset) -> float:
    """Read the first rows of the largest tensors, or of some of their units, and give bytes a second.

    In a few parts of whole chunks, each once, as they may come from a disk; the fastest counts, as of all
    rates here: what else goes on may slow any of them.
    """
    tensors = [trajectory.variables[name] for name in tensor_names(trajectory)]
    tensors.sort(key=lambda variable: -variable.nbytes)
    if not tensors or not tensors[0].size:
        return READ_RATE
    held = np.cumsum([variable.nbytes for variable in tensors])
    # Of small tensors a chunk has so many rows that it would be decoded for every part.
    tensors = tensors[: int(np.searchsorted(held, 0.8 * held[-1])) + 1]
    n_rows = trajectory.sizes["step"]
    row_bytes = max(1, sum(variable.nbytes for variable in tensors) // max(1, n_rows))
    rows = min(n_rows, max(SAMPLE_ROWS, SAMPLE_BYTES // row_bytes))
    chunks = [variable.encoding.get("preferred_chunks", {}).get("step", SAMPLE_ROWS) for variable in tensors]
    chunk = max(1, *chunks)
    length = chunk * max(1, rows // (_PARTS * chunk))
    np.asarray(tensors[0][(slice(0, 1), slice(0, 1))[: tensors[0].ndim]])  # loads what reading needs
    return max(_rate(tensors, start, start + length) for start in range(0, rows, length))


def _rate(tensors: list[xr.Variable], start: int, stop: int) -> float:
    started, n_bytes = time.perf_counter(), 0
    for variable in tensors:
        units = variable.shape[1] if variable.ndim > 1 else 1
        unit_bytes = max(1, (stop - start) * variable.nbytes // max(1, variable.shape[0] * units))
        part = slice(0, max(1, SAMPLE_BYTES // unit_bytes))
        n_bytes += variable[(slice(start, stop), part)[: variable.ndim]].values.nbytes
        if n_bytes >= 2 * SAMPLE_BYTES:
            break
    return n_bytes / max(time.perf_counter() - started, 1e-6)


def _seconds(work: Callable[[], object]) -> float:
    spent = []
    for _ in range(5):
        started = time.perf_counter()
        work()
        spent.append(time.perf_counter() - started)
    return min(spent)
