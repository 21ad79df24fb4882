"""A partition read off the recording: weights whose movements are correlated, in whatever layer they lie."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.cluster.vq import kmeans2

from koopscope.errors import PartitionError
from koopscope.parallel import READ_BLOCK, require_memory
from koopscope.partition import Partition
from koopscope.statistics.windows import Window
from koopscope.weight_vector import TensorSlot, WeightVector

INCREMENTS = 64  # a weight: enough that correlations between them are good to an eighth
SEED = 0


def correlated_labels(trajectory: xr.Dataset, weights: WeightVector, window: Window, k: int) -> Partition:
    """Group weights by the correlation of their increments over the window.

    Each weight's increments between 65 rows spread evenly over t1..t2 are centred and scaled to length one,
    so that squared distances are ``2 - 2 correlation``; weights that move against the main direction are
    mirrored, since a linear map does not mind the sign; k-means then finds the groups. Nothing after t2 is
    read, and no more than 65 rows.

    Parameters
    ----------
    trajectory, weights, window
        The recording, its flat order, and the window.
    k
        Number of groups; fewer come out where fewer can be told apart.

    Returns
    -------
    Partition
        The groups as labels.

    Raises
    ------
    PartitionError
        If there are fewer weights than groups.
    MemoryBudgetError
        If 64 numbers a weight exceed the memory budget.

    Notes
    -----
    k-means++: Arthur & Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
    """
    if k > weights.size:
        raise PartitionError(f"correlated:{k} asks for more groups than the {weights.size} weights there are")
    require_memory(
        3 * weights.size * INCREMENTS * 4,
        f"the increments of {weights.size} weights",
        "group by layer or node instead, or take fewer tensors (--include, --exclude)",
    )
    rows = np.unique(np.linspace(window.first_row, window.last_row, INCREMENTS + 1).round().astype(np.int64))
    moves = np.concatenate([_directions(trajectory, slot, rows) for slot in weights.tensors])
    gram = (moves.T @ moves).astype(np.float64)
    main = np.linalg.eigh(gram)[1][:, -1].astype(np.float32)
    moves *= np.where(moves @ main < 0, -1.0, 1.0).astype(np.float32)[:, None]
    with warnings.catch_warnings():
        # Fewer groups than asked for is an answer too, and empty ones are left out below.
        warnings.filterwarnings("ignore", "One of the clusters is empty", UserWarning)
        _, labels = kmeans2(moves, k, minit="++", rng=np.random.default_rng(SEED))
    return Partition.from_labels(weights.split(labels.astype(np.int64)))


def _directions(
    trajectory: xr.Dataset, slot: TensorSlot, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Increments of one tensor's weights, centred and of length one, shape ``(weight, increment)``."""
    variable = trajectory[slot.name].variable
    moves = np.empty((slot.size, rows.size - 1), np.float32)
    # Rows are read one by one where a tensor is large: only increments are kept.
    at_once = max(2, READ_BLOCK // max(1, 8 * slot.size))
    for start in range(0, rows.size - 1, at_once):
        chosen = rows[start : start + at_once + 1]
        values: npt.NDArray[Any] = np.asarray(variable[chosen].values, np.float64)
        moves[:, start : start + chosen.size - 1] = np.diff(values.reshape(chosen.size, slot.size), axis=0).T
    moves -= moves.mean(axis=1, keepdims=True)
    length = np.linalg.norm(moves, axis=1, keepdims=True)
    # A weight that never moves, or moves evenly, has no direction and stays at the origin.
    return np.asarray(np.where(length > 0, moves / np.where(length > 0, length, 1.0), 0.0), np.float32)
