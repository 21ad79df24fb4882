"""Seeded runs whose operators are known: for documentation, tests, and a first try without a recording."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr

from koopscope.partition import Partition
from koopscope.trajectory import from_arrays
from koopscope.weight_vector import WeightVector

ROTATION = 0.99 * np.exp(0.07j)  # a decaying oscillation, with its conjugate
CONTRACTION = 0.96
SHAPES = {"fc1.weight": (4, 3), "fc1.bias": (4,), "fc2.weight": (2, 4), "fc2.bias": (2,)}


def linear_run(
    partition: str = "node",
    *,
    n_rows: int = 1001,
    drift: float = 1e-3,
    seed: int = 0,
    dtype: str = "float64",
) -> xr.Dataset:
    """Record a run in which every group of a partition obeys one linear map exactly.

    Each group moves in as many dimensions as it has weights, at most four: a rotation that decays
    (``ROTATION``), then a contraction (``CONTRACTION``), then a straight drift, mixed by a random orthonormal
    map and added to random constant weights. A single weight contracts.

    Parameters
    ----------
    partition
        Groups that evolve on their own.
    n_rows
        Recorded steps 0, 1, ..., n_rows - 1.
    drift
        Length of the constant change per step; 0 leaves a fixed point.
    seed
        Of weights, maps and phases.
    dtype
        Precision of the recording.

    Returns
    -------
    xr.Dataset
        A trajectory with two layers, ``fc1`` (3 inputs, 4 units) and ``fc2`` (4 inputs, 2 units).

    Examples
    --------
    >>> run = linear_run(n_rows=5)
    >>> run["fc1.weight"].shape
    (5, 4, 3)
    """
    random = np.random.default_rng(seed)
    empty = from_arrays([0], {name: np.zeros((1, *shape)) for name, shape in SHAPES.items()})
    weights = WeightVector.of(empty)
    values = np.tile(random.normal(size=weights.size), (n_rows, 1))
    for block in Partition.parse(partition).blocks(weights):
        n_groups, size = block.members.shape
        modes = _modes(n_rows, n_groups, size, drift, random)
        mixing = np.linalg.qr(random.normal(size=(*block.members.shape, modes.shape[2])))[0]
        values[:, block.members] += np.einsum("gds,tgs->tgd", mixing, modes)
    tensors = {name: array.astype(dtype) for name, array in weights.split(values).items()}
    loss = np.mean((values - values[-1]) ** 2, axis=1)
    return from_arrays(np.arange(n_rows), tensors, {"loss": loss})


def _modes(
    n_rows: int, n_groups: int, size: int, drift: float, random: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Coordinates that evolve on their own, shape ``(row, group, min(size, 4))``."""
    times = np.arange(n_rows)[:, None]
    rotation = ROTATION**times * np.exp(1j * random.uniform(0, 2 * np.pi, n_groups))
    contraction = CONTRACTION**times * random.uniform(0.5, 1.5, n_groups)
    line = drift * times * np.ones(n_groups)
    if size == 1:
        return contraction[..., None]
    return np.stack([rotation.real, rotation.imag, contraction, line], axis=-1)[..., :size]
