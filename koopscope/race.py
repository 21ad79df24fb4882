"""Which settings would have forecast best: every candidate from many earlier origins, on Gram matrices alone.

An *origin* is a step inside the window that is taken for t2: candidates are fitted on what came before it,
and their forecasts compared with what was recorded after it. Errors and true changes are quadratic forms
of the Gram matrix of snapshots, so that no weight is read again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from koopscope.operators import Floats, GramModes, states_at
from koopscope.parallel import single_threaded_blas

Rows = npt.NDArray[np.int64]

LAG_MULTIPLES = (1, 2, 5)  # of the base grid, a two-hundredth of the window
DELAYS = (1, 5, 10, 20, 30)
RTOLS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
WINDOW_SHARES = (1.0, 0.5)  # of what lies before the origin
LINE_SHARES = (0.2, 0.5, 1.0)
N_ORIGINS = 9
FEWEST_COLUMNS = 8  # stacked snapshots below which a fit is an interpolation
LARGEST_EXCURSION = 10.0  # a forecast farther than so many times the window's reach is out of the race


@dataclass(frozen=True)
class Candidate:
    """One setting in the race.

    Attributes
    ----------
    kind
        ``affine``, ``linear`` or ``hold``.
    partition
        Index of the partition raced.
    multiple
        Lag in units of the base grid.
    delays, rtol
        As in `koopscope.fit`.
    share
        Part of the window before the origin that is fitted, counted back from the origin.
    """

    kind: str
    partition: int
    multiple: int
    delays: int
    rtol: float
    share: float


@dataclass(frozen=True)
class Race:
    """Relative errors of every candidate, shape ``(candidate, origin, lead)``; infinite where out.

    ``origins`` are rows of the base grid, ``leads`` numbers of base lags.
    """

    candidates: tuple[Candidate, ...]
    origins: Rows
    leads: Rows
    errors: Floats

    @property
    def scores(self) -> Floats:
        """Mean over origins of the error at the largest lead, shape ``(candidate,)``."""
        return np.asarray(self.errors[:, :, -1].mean(axis=1))

    @property
    def chosen(self) -> int:
        """The candidate with the best score."""
        return int(np.argmin(self.scores))

    def worst(self) -> Floats:
        """Largest error of the chosen candidate over origins, never falling with the lead."""
        return np.asarray(np.maximum.accumulate(self.errors[self.chosen].max(axis=0)))


def run_race(partitions: Sequence[Floats], leads: Rows) -> Race:
    """Race all candidates from `N_ORIGINS` origins.

    Parameters
    ----------
    partitions
        For each partition in the race, the Gram matrices of its groups about the window's last snapshot,
        shape ``(group, snapshot, snapshot)``.
    leads
        Increasing numbers of base lags; candidates are ranked at the last.
    """
    origins = race_origins(partitions[0].shape[1], int(leads[-1]))
    found: dict[Candidate, Floats] = {}
    with single_threaded_blas():
        for position, origin in enumerate(origins):
            for candidate, errors in _race_from(partitions, int(origin), leads):
                every = found.setdefault(candidate, np.full((origins.size, leads.size), np.inf))
                every[position] = errors
    return Race(tuple(found), origins, leads, np.stack(list(found.values())))


def race_origins(n: int, largest_lead: int) -> Rows:
    """Spread origins over the second half of the window, as far as the largest lead lets them go."""
    last = n - 1 - largest_lead
    return np.unique(np.linspace(min(n // 2, last), last, N_ORIGINS).astype(np.int64))


def fitted_rows(origin: int, multiple: int, share: float) -> Rows:
    """Rows of the base grid that a candidate fits, counted back from the origin."""
    first = round(origin * (1.0 - share))
    return np.arange(origin, first - 1, -multiple, dtype=np.int64)[::-1]


def line_rows(origin: int, share: float) -> Rows:
    """Rows of the base grid that a straight line is fitted to; at least two."""
    return np.arange(min(origin - 1, round(origin * (1.0 - share))), origin + 1, dtype=np.int64)


def about(gram: Floats, row: int) -> Floats:
    """Move the point that a Gram matrix is taken about to one of its snapshots."""
    column = gram[:, :, row : row + 1]
    return np.asarray(gram - column - column.swapaxes(1, 2) + gram[:, row : row + 1, row : row + 1])


def _race_from(partitions: Sequence[Floats], origin: int, leads: Rows) -> Iterator[tuple[Candidate, Floats]]:
    """Yield every candidate's relative errors at all leads from one origin."""
    end = origin + int(leads[-1]) + 1
    for index, grams in enumerate(partitions):
        seen = about(grams[:, :end, :end], origin)
        truth = _Truth.of(seen, origin, leads)
        if index == 0:
            yield from _baselines(seen, truth, origin, leads)
        shares = WINDOW_SHARES if index == 0 else WINDOW_SHARES[:1]  # the first partition settles the length
        for multiple, delays, share in product(LAG_MULTIPLES, DELAYS, shares):
            used = fitted_rows(origin, multiple, share)
            if used.size - delays + 1 < FEWEST_COLUMNS:
                continue
            modes = GramModes(seen[:, used][:, :, used], delays)
            before: list[int] = []
            errors = np.empty(0)
            for rtol in RTOLS:
                reduced = modes.truncate(rtol)
                ranks = reduced.kept.sum(axis=1).tolist()
                if ranks != before:  # a smaller tolerance that keeps no more directions is the same fit
                    states = states_at(reduced.operator, reduced.displacement, leads.astype(float), multiple)
                    weights = states @ reduced.coefficients.swapaxes(1, 2)
                    before, errors = ranks, truth.errors(used[delays - 1 : -1], weights)
                yield Candidate("affine", index, multiple, delays, rtol, share), errors


def _baselines(seen: Floats, truth: _Truth, origin: int, leads: Rows) -> Iterator[tuple[Candidate, Floats]]:
    yield Candidate("hold", 0, 1, 1, 0.0, 1.0), np.where(truth.evolution > 0, 1.0, 0.0)
    for share in LINE_SHARES:
        used = line_rows(origin, share)
        weights = np.broadcast_to(leads[:, None] * line_weights(used), (seen.shape[0], leads.size, used.size))
        yield Candidate("linear", 0, 1, 1, 0.0, share), truth.errors(used, weights)


def line_weights(rows: Rows) -> Floats:
    """Weights of a least-squares slope per base lag: the slope is their product with the snapshots."""
    centred = rows - rows.mean()
    return np.asarray(centred / (centred @ centred))


@dataclass(frozen=True)
class _Truth:
    """What was recorded around one origin, as inner products about it."""

    gram: Floats
    targets: Rows
    evolution: Floats  # squared, per lead
    reach: float  # squared largest distance of the window before the origin

    @classmethod
    def of(cls, gram: Floats, origin: int, leads: Rows) -> _Truth:
        squares = gram.diagonal(axis1=1, axis2=2).sum(axis=0)
        return cls(gram, origin + leads, squares[origin + leads], float(squares[: origin + 1].max()))

    def errors(self, columns: Rows, weights: Floats) -> Floats:
        """Relative errors of the displacements ``sum_j weights_j (w_j - w_origin)``; shape ``(lead,)``.

        ``weights`` is ``(group, lead, column)``.
        """
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            inner = self.gram[:, columns][:, :, columns]
            across = self.gram[:, columns][:, :, self.targets].swapaxes(1, 2)
            moved = ((weights @ inner) * weights).sum(axis=(0, 2))
            squared = moved - 2 * (weights * across).sum(axis=(0, 2)) + self.evolution
            relative = np.sqrt(np.maximum(squared, 0.0) / self.evolution)
        nothing_moved = np.where(squared > 0, np.inf, 0.0)
        out = ~np.isfinite(squared) | (moved > LARGEST_EXCURSION**2 * self.reach)
        return np.where(out, np.inf, np.where(self.evolution > 0, relative, nothing_moved))
