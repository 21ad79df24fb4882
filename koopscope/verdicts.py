"""Verdicts on forecasts: a figure in words, and never the words without the figure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

DIVERGED = 100.0  # errors this many times the change are no forecast any more
MOST_TIMES = 1e6  # beyond it, how much closer a forecast is counts the rounding of the recording
ILL_CONDITIONED = 1e8  # double precision leaves such an operator less than half of its digits


def forecast_verdict(figures: Mapping[str, Any], weights: int) -> str:
    """Judge a forecast by its figures at one lead.

    Parameters
    ----------
    figures
        ``relative_l2``, ``skill_linear`` and ``moved``.
    weights
        How many weights the figures are over.

    Examples
    --------
    >>> forecast_verdict({"relative_l2": 0.08, "skill_linear": 0.5, "moved": 20}, 20)
    'forecast 12.5x closer than holding still'
    >>> forecast_verdict({"relative_l2": 3e-14, "skill_linear": 0.5, "moved": 20}, 20)
    'forecast over 1 000 000x closer than holding still'
    >>> forecast_verdict({"relative_l2": 0.5, "skill_linear": -0.03, "moved": 20}, 20)
    'no better than a straight line (skill -0.03)'
    >>> forecast_verdict({"relative_l2": 0.0, "skill_linear": 0.0, "moved": 0}, 20)
    'nothing moved (0 of 20 weights)'
    """
    error, moved = float(figures["relative_l2"]), int(figures["moved"])
    if math.isnan(error):
        return "diverged (the forecast is not finite)"
    if moved == 0:
        return f"nothing moved ({moved} of {weights} weights)" + (", the forecast did" if error else "")
    if error > DIVERGED:
        return f"diverged (error {error:.2g} times the change)"
    if error > 1:
        return f"worse than holding still (error {error:.3g} times the change)"
    skill = float(figures["skill_linear"])
    if skill <= 0:
        return f"no better than a straight line (skill {skill:.2g})"
    if error == 0:
        return "exact (error 0)"
    if error < 1 / MOST_TIMES:
        return f"forecast over {MOST_TIMES:,.0f}x closer than holding still".replace(",", " ")
    closer = 1 / error
    return f"forecast {closer:{'.3g' if closer < 1000 else '.0f'}}x closer than holding still"
