"""The increment Gram ``P_km = D_k . D_m`` of recorded increments, the statistic of wide groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from koopscope.kernels.accelerate import jit

WEIGHTS_PER_TILE = 512  # increments of this many weights are widened to float64 at a time


@jit()
def increment_gram(snapshots: npt.NDArray[Any], members: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Inner products of each group's increments, summed over its weights.

    Parameters
    ----------
    snapshots
        Shape ``(snapshot, weight)``, any floating type.
    members
        Flat weight indices, shape ``(group, member)``.

    Returns
    -------
    Shape ``(group, snapshot - 1, snapshot - 1)``. Additive over weights: the Gram of a union of groups is
    the sum of theirs.
    """
    n_groups, d = members.shape
    n = snapshots.shape[0] - 1
    gram = np.zeros((n_groups, n, n))
    tile = np.empty((n, min(d, WEIGHTS_PER_TILE)))
    for group in range(n_groups):
        for start in range(0, d, WEIGHTS_PER_TILE):
            count = min(WEIGHTS_PER_TILE, d - start)
            increments = tile[:, :count].copy()
            for k in range(n):
                for j in range(count):
                    column = members[group, start + j]
                    # Widened before subtracting: the difference of two float32 is exact in float64.
                    increments[k, j] = np.float64(snapshots[k + 1, column]) - np.float64(snapshots[k, column])
            gram[group] += np.dot(increments, increments.T)
    return gram


@jit()
def increments(
    snapshots: npt.NDArray[Any], members: npt.NDArray[np.int64], out: npt.NDArray[np.float64]
) -> None:
    """Put the increments of one group's weights, widened to float64, side by side.

    Parameters
    ----------
    snapshots
        Shape ``(snapshot, weight)``, any floating type.
    members
        Flat weight indices, shape ``(member,)``.
    out
        Shape ``(snapshot - 1, member)``.
    """
    d, first = members.shape[0], members[0]
    joined = members[d - 1] - first == d - 1
    for j in range(1, d):
        joined &= members[j] == members[j - 1] + 1
    for k in range(out.shape[0]):
        line = out[k]
        if joined:
            now, following = snapshots[k, first : first + d], snapshots[k + 1, first : first + d]
            for j in range(d):
                line[j] = np.float64(following[j]) - np.float64(now[j])
        else:
            for j in range(d):
                line[j] = np.float64(snapshots[k + 1, members[j]]) - np.float64(snapshots[k, members[j]])
