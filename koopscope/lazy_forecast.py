"""Forecasts larger than memory: combined from a basis when they are asked for, lead by lead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from koopscope.operators import Floats
from koopscope.trajectory.lazy import lazily
from koopscope.weight_vector import WeightVector


@dataclass(frozen=True)
class Course:
    """Where the groups of one block go: ``w = origin + basis z(lead)``, the basis the identity where None.

    Attributes
    ----------
    states
        The z, shape ``(group, lead, state)``.
    basis
        Combinations of recorded snapshots, shape ``(group, member, state)``.
    origin
        Weights that the forecast starts from, shape ``(group, member)``.
    members
        Flat weight indices, shape ``(group, member)``.
    """

    states: Floats
    basis: Floats | None
    origin: Floats
    members: npt.NDArray[np.int64]

    def at(self, leads: slice) -> Floats:
        """Weights at some of the leads, shape ``(lead, group, member)``; not finite where states diverge."""
        moved = self.states[:, leads]
        if self.basis is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                moved = moved @ self.basis.swapaxes(1, 2)
        return np.asarray(self.origin + moved.swapaxes(0, 1))


def lazy_tensors(courses: Sequence[Course], weights: WeightVector, n_leads: int) -> dict[str, Any]:
    """Give an array a tensor, shape ``(lead, ...)``, as xarray takes it, computed when it is read.

    Only one lead is combined at a time, so that reading holds no more than what is read and one row more.

    Parameters
    ----------
    courses
        Of all blocks of a fit.
    weights
        Flat order.
    n_leads
        Leads that the states hold.
    """
    tensors = {}
    for index, slot in enumerate(weights.tensors):
        first, stop = int(weights.offsets[index]), int(weights.offsets[index + 1])
        own = [course for course in courses if course.members.max() >= first and course.members.min() < stop]
        read = partial(_read, own, first, slot.shape)
        tensors[slot.name] = lazily(read, (n_leads, *slot.shape), np.dtype(np.float64))
    return tensors


def _read(
    courses: Sequence[Course], first: int, shape: tuple[int, ...], key: tuple[slice, ...]
) -> npt.NDArray[np.float64]:
    rows = []
    row = np.empty(int(np.prod(shape, dtype=np.int64)))
    places = [course.members - first for course in courses]
    inside = [(place >= 0) & (place < row.size) for place in places]
    for lead in range(*key[0].indices(courses[0].states.shape[1])):
        for course, place, chosen in zip(courses, places, inside, strict=True):
            row[place[chosen]] = course.at(slice(lead, lead + 1))[0][chosen]
        rows.append(row.reshape(shape)[key[1:]].copy())
    return np.stack(rows) if rows else np.empty((0, *row.reshape(shape)[key[1:]].shape))
