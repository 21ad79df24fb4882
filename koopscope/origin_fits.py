"""Affine fits of one setting from all origins of a race, solved once for every tolerance.

The origins' operators are stacked, so that powers and errors of all of them are single products: one by one
they are too small to keep a processor busy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from koopscope.hindcast import LARGEST_RANK, Rows, Truths
from koopscope.operators import Floats, GramModes, apply, states_at

FEWEST_COLUMNS = 8  # stacked snapshots below which a fit is an interpolation


def embeddings(gram: Floats, delays: Sequence[int]) -> dict[int, Floats]:
    """Gram matrices of columns that stack so many snapshots, each a sum of a few of fewer delays.

    ``H_(a+b)[i, j] = H_a[i, j] + H_b[i + a, j + a]``; numbers that leave no two columns are left out.
    """
    found = {1: gram}
    for wanted in sorted(delays):
        n_columns = gram.shape[1] - wanted + 1
        if n_columns < 2:
            break
        reached = max(found)
        stacked = found[reached][:, :n_columns, :n_columns]
        while reached < wanted:
            step = max(number for number in found if number <= wanted - reached)
            rows = slice(reached, reached + n_columns)
            stacked = stacked + found[step][:, rows, rows]
            reached += step
        found[wanted] = stacked
    return found


@dataclass(frozen=True)
class OriginFits:
    """Fits of one lag, number of delays and length of the window, on the widest truncation.

    ``operator``, ``state``, ``intercept``, ``inner``, ``across`` and ``singular`` have the dims origin and
    group first and are padded with zeros to one width; origins with too few columns have none of it and
    ``columns`` that are empty. ``states`` are those of the forecasts, for every tolerance that was tried.
    """

    truths: Truths
    multiple: int
    operator: Floats
    state: Floats
    intercept: Floats
    inner: Floats
    across: Floats
    kept: dict[float, npt.NDArray[np.bool_]]
    coefficients: tuple[Floats, ...]
    columns: tuple[Rows, ...]
    states: dict[float, Floats] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        truths: Truths,
        stacked: Sequence[Floats | None],
        columns: Sequence[Rows],
        multiple: int,
        rtols: Sequence[float],
    ) -> OriginFits | None:
        """Solve from every origin; ``stacked`` are Gram matrices of ``columns``, by their newest snapshot.

        The last of the columns is the origin itself. Returns None where no origin has enough columns.
        """
        n_origins, n_groups = truths.origins.size, truths.grams[0].shape[0]
        width, n_leads = LARGEST_RANK, truths.leads.size
        operator = np.zeros((n_origins, n_groups, width, width))
        inner = np.zeros_like(operator)
        state = np.zeros((n_origins, n_groups, width))
        intercept = np.zeros_like(state)
        across = np.zeros((n_origins, n_groups, n_leads, width))
        singular = np.zeros_like(state)
        floor = np.zeros(n_origins)
        coefficients, used = [], []
        for position, (gram, newest) in enumerate(zip(stacked, columns, strict=True)):
            enough = gram is not None and gram.shape[1] >= FEWEST_COLUMNS
            starts = newest[:-1] if enough else newest[:0]
            used.append(starts)
            if gram is None or not enough:
                coefficients.append(np.zeros((n_groups, 0, width)))
                continue
            modes = GramModes(gram, 1)
            reduced = modes.truncate(min(rtols), LARGEST_RANK)
            w = reduced.operator.shape[1]
            operator[position, :, :w, :w] = reduced.operator
            state[position, :, :w], intercept[position, :, :w] = reduced.state, reduced.intercept
            span = slice(int(starts[0]), int(starts[-1]) + 1, multiple)
            found = truths.products(position, span, reduced.coefficients)
            inner[position, :, :w, :w], across[position, :, :, :w] = found
            singular[position, :, :w], floor[position] = modes.singular[:, :w], modes.floor
            coefficients.append(reduced.coefficients)
        if not any(starts.size for starts in used):
            return None
        largest = singular[:, :, :1]
        kept = {
            rtol: (singular > np.maximum(rtol, floor)[:, None, None] * largest) & (singular > 0)
            for rtol in rtols
        }
        return cls(
            truths,
            multiple,
            operator,
            state,
            intercept,
            inner,
            across,
            kept,
            tuple(coefficients),
            tuple(used),
        )

    def errors(self) -> dict[float, Floats]:
        """Relative errors for every tolerance, ``(origin, lead)``; infinite where nothing was fitted."""
        fitted = np.array([starts.size > 0 for starts in self.columns])
        found: dict[float, Floats] = {}
        before: tuple[npt.NDArray[np.bool_], Floats, Floats] | None = None
        for rtol, kept in self.kept.items():
            if before is None or not np.array_equal(kept, before[0]):  # else it is the same fit again
                states = self._states(kept)
                w = states.shape[3]
                errors = self.truths.errors(states, self.inner[:, :, :w, :w], self.across[:, :, :, :w])
                before = kept, states, np.where(fitted[:, None], errors, np.inf)
            self.states[rtol], found[rtol] = before[1:]
        return found

    def snapshot_weights(self, rtol: float, position: int) -> Floats:
        """Weights on the snapshots up to an origin's truth that make up the forecast from there.

        Shape ``(group, lead, snapshot)``; after `errors`.
        """
        states = self.states[rtol][position]
        coefficients = self.coefficients[position]
        gram = self.truths.grams[position]
        weights = np.zeros((gram.shape[0], self.truths.leads.size, gram.shape[1]))
        width = min(states.shape[2], coefficients.shape[2])
        with np.errstate(over="ignore", invalid="ignore"):
            moved = states[:, :, :width] @ coefficients[:, :, :width].swapaxes(1, 2)
        weights[:, :, self.columns[position]] = moved
        return weights

    def _states(self, kept: npt.NDArray[np.bool_]) -> Floats:
        """States after each lead, shape ``(origin, group, lead, state)``: a corner of the widest operator."""
        width = max(1, int(kept.sum(axis=2).max()))
        mask = kept[:, :, :width].astype(np.float64).reshape(-1, width)
        operator = self.operator[:, :, :width, :width].reshape(-1, width, width)
        operator = operator * mask[:, :, None] * mask[:, None, :]
        state = self.state[:, :, :width].reshape(-1, width) * mask
        intercept = self.intercept[:, :, :width].reshape(-1, width) * mask
        displacement = apply(operator, state) + intercept - state
        leads = self.truths.leads.astype(np.float64)
        states = states_at(operator, displacement, leads, self.multiple, together=True)
        return states.reshape(*kept.shape[:2], leads.size, width)
