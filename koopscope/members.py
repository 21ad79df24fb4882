"""Which fits a race takes the mean of: good from earlier origins, and at one about what follows t2."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from koopscope.hindcast import LARGEST_RANK, Candidate, Rows, fitted_rows, straight_weights
from koopscope.operators import Floats, GramModes, states_at

LARGEST_CHANGE = 1.5  # times what the run moved from any origin: farther is no believable forecast


class Forecasts:
    """Forecasts from t2 as weights on the snapshots of the window: nothing after t2 is needed.

    Every decomposition is made once: candidates differ in their tolerances as well, and the winner's are
    those that its operators are made of.

    Parameters
    ----------
    partitions
        As for `run_race`.
    leads
        Numbers of base lags.
    """

    def __init__(self, partitions: Sequence[Floats], leads: Rows) -> None:
        self.grams = partitions
        self._leads = leads
        self._modes: dict[tuple[int, int, int, float], GramModes] = {}
        self._known: dict[Candidate, Floats] = {}

    def modes(self, fit: Candidate) -> GramModes:
        """Give the modes of an affine fit up to t2."""
        key = (fit.partition, fit.multiple, fit.delays, fit.share)
        if key not in self._modes:
            gram, rows = self.grams[fit.partition], self._rows(fit)
            self._modes[key] = GramModes(gram[:, rows][:, :, rows], fit.delays)
        return self._modes[key]

    def squared_changes(self, fit: Candidate) -> Floats:
        """Squared length of the change at every lead, all weights together, shape ``(lead,)``."""
        weights = self._weights(fit, fit.partition)
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(((weights @ self.grams[fit.partition]) * weights).sum(axis=(0, 2)))

    def most_central(self, fits: Sequence[Candidate], n: int) -> list[int]:
        """Choose those whose forecasts at the largest lead lie nearest to all the others.

        What a fit alone foretells is as a rule its own error, and shows before the truth does. Distances
        from the others add up unsquared, so that a few that stray do not move the middle. Indices are in
        the order given.
        """
        partition = max(fit.partition for fit in fits)  # straight lines name none
        weights = np.stack([self._weights(fit, partition)[:, -1:] for fit in fits])
        inner = np.tensordot(weights @ self.grams[partition], weights, axes=((1, 2, 3), (1, 2, 3)))
        lengths = inner.diagonal()
        squared = lengths[:, None] + lengths - 2 * inner
        distance = np.sqrt(np.maximum(squared, 0.0)).sum(axis=1)
        return sorted(np.argsort(distance, kind="stable")[:n].tolist())

    def _weights(self, fit: Candidate, partition: int) -> Floats:
        """Weights on snapshots that make up the change at every lead, shape ``(group, lead, snapshot)``."""
        n_groups, n = self.grams[partition].shape[:2]
        if fit.kind != "affine":
            straight = straight_weights(n, n - 1, self._leads, fit)
            return np.broadcast_to(straight, (n_groups, *straight.shape))
        if fit not in self._known:
            reduced = self.modes(fit).truncate(fit.rtol, LARGEST_RANK)
            steps = self._leads.astype(np.float64)
            states = states_at(reduced.operator, reduced.displacement, steps, fit.multiple, together=True)
            weights = np.zeros((n_groups, self._leads.size, n))
            newest = self._rows(fit)[fit.delays - 1 : -1]
            with np.errstate(over="ignore", invalid="ignore"):
                weights[:, :, newest] = states @ reduced.coefficients.swapaxes(1, 2)
            self._known[fit] = weights
        return self._known[fit]

    def _rows(self, fit: Candidate) -> Rows:
        return fitted_rows(self.grams[fit.partition].shape[1] - 1, fit.multiple, fit.share)


def is_believable(squared_changes: Floats, squared_evolution: Floats) -> bool:
    """Tell whether a forecast from t2 moves about as far as the run did over the same leads.

    Parameters
    ----------
    squared_changes
        Shape ``(lead,)``.
    squared_evolution
        What was recorded from every origin, shape ``(origin, lead)``.
    """
    farthest = LARGEST_CHANGE**2 * squared_evolution.max(axis=0)
    return bool(np.all(np.isfinite(squared_changes) & (squared_changes <= farthest)))
