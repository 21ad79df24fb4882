"""The last increments of a group of a run that goes on, their inner products, and their windows' fits."""

from __future__ import annotations

import numpy as np

from koopscope.basin_criteria import Judged, judge_fits, slices
from koopscope.operators import Floats
from koopscope.window_fits import WindowFits, fit_windows


class RecentWindows:
    """Takes increments as they come; each window is fitted once, when its last increment is there.

    Parameters
    ----------
    size
        Number of weights in the group.
    m
        Increments in a window.
    capacity
        Increments kept, at least ``m``.
    """

    def __init__(self, size: int, m: int, capacity: int) -> None:
        self._m = m
        self._rows = np.zeros((capacity, size))  # a ring: old rows are overwritten where they lie
        self._next = 0
        self._fits: WindowFits | None = None
        self.products: Floats = np.zeros((0, 0))

    @property
    def kept(self) -> int:
        """Number of increments kept."""
        return int(self.products.shape[0])

    def extend(self, new: Floats, rounding: float) -> None:
        """Take increments, shape ``(increment, weight)``, at most as many as are kept.

        ``rounding`` is the squared length of one snapshot's rounding error.
        """
        capacity, count = self._rows.shape[0], new.shape[0]
        self._rows[(self._next + np.arange(count)) % capacity] = new
        self._next = (self._next + count) % capacity
        kept = min(self.kept + count, capacity)
        order = (self._next - kept + np.arange(kept)) % capacity
        across = (self._rows[:kept] @ new.T)[order]
        old = kept - count
        grown = np.empty((kept, kept))
        grown[:old, :old] = self.products[self.kept - old :, self.kept - old :]
        grown[:, old:] = across
        grown[old:, :] = across.T
        self.products = grown
        self._fit(min(count, kept - self._m + 1), rounding)

    def _fit(self, count: int, rounding: float) -> None:
        """Fit the last ``count`` windows; forget those that are no longer kept."""
        if count < 1:
            return
        n_windows = self.kept - self._m + 1
        new = fit_windows(slices(self.products, self._m, n_windows - count), rounding)
        held = [new] if self._fits is None else [self._fits, new]
        self._fits = WindowFits.joined(held).last(n_windows)

    def judge(self, start: int, rounding: float) -> Judged:
        """Judge the windows of the increments from ``start`` on."""
        if self._fits is None:
            raise IndexError(f"{self.kept} increments fill no window of {self._m}")
        fits = self._fits.last(self.kept - start - self._m + 1)
        return judge_fits(self.products[start:, start:], self._m, fits, rounding)
