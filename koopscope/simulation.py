"""Seeded runs whose operators are known: for documentation, tests, and a first try without a recording."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr

from koopscope.errors import UsageError
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


KINDS = ("contraction", "drift", "walk", "power", "log", "ornstein-uhlenbeck", "oscillation", "growth")


def settling_run(
    kind: str,
    *,
    n_rows: int = 1501,
    rate: float = 0.02,
    noise: float = 0.0,
    seed: int = 0,
    dtype: str = "float64",
) -> xr.Dataset:
    """Record a run of 20 weights of which it is known whether it settles.

    Parameters
    ----------
    kind
        ``contraction`` (three directions that decay at one, two and a half and six times the rate), ``drift``
        (straight), ``walk`` (independent increments), ``power`` (``(t + t0) ** -0.5``), ``log``
        (``log(t + t0)``), ``ornstein-uhlenbeck`` (noise that is pulled back at the rate), ``oscillation``
        (never decays), ``growth`` (a contraction in reverse).
    n_rows
        Recorded steps 0, 1, ..., n_rows - 1.
    rate
        Per training step.
    noise
        Standard deviation of noise added to each recorded weight; the motion is of length one.
    seed
        Of start, directions and noise.
    dtype
        Precision of the recording.

    Returns
    -------
    xr.Dataset
        A trajectory with one layer, ``fc``, and a metric ``loss``.

    Examples
    --------
    >>> settling_run("drift", n_rows=9)["fc.weight"].shape
    (9, 4, 4)
    """
    if kind not in KINDS:
        raise UsageError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
    random = np.random.default_rng(seed)
    size, times = 20, np.arange(n_rows, dtype=np.float64)[:, None]
    directions = np.linalg.qr(random.normal(size=(size, 3)))[0].T
    rates = rate * np.array([1.0, 2.5, 6.0])
    late = random.uniform(5, 100)
    if kind in ("walk", "ornstein-uhlenbeck"):
        motion = random.normal(size=(n_rows, size)) / np.sqrt(n_rows)
        keep = 1.0 if kind == "walk" else 1.0 - rate
        for row in range(1, n_rows):
            motion[row] += keep * motion[row - 1]
    elif kind == "oscillation":
        phases = rate * times + random.uniform(0, 2 * np.pi, 3)
        motion = np.cos(phases) @ directions
    else:
        courses = {
            "contraction": np.exp(-rates * times),
            "growth": np.exp(rates * (times - n_rows)),
            "drift": times / n_rows,
            "power": (times + late) ** -0.5,
            "log": np.log(times + late),
        }
        motion = (courses[kind] * random.uniform(0.5, 1.5, 3)) @ directions
    values = random.normal(size=size) + motion + noise * random.normal(size=(n_rows, size))
    values = values.astype(dtype)
    loss = np.mean((values - values[-1]) ** 2, axis=1)
    tensors = {"fc.weight": values[:, :16].reshape(-1, 4, 4), "fc.bias": values[:, 16:]}
    return from_arrays(np.arange(n_rows), tensors, {"loss": loss})
