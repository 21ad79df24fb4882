"""Verdicts: a figure in words, and never the words without the figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from koopscope.verdicts import forecast_verdict as forecast_verdict


def loss_verdict(loss: Mapping[str, Any]) -> str:
    """Say what a forecast is worth in loss, and in optimiser steps where the recording tells them.

    Parameters
    ----------
    loss
        ``at_t2``, ``true``, ``forecast``, ``success``, and ``t_eq``, ``t_eq_ratio``, ``t_eq_censored`` or
        None.

    Examples
    --------
    >>> loss_verdict({"at_t2": 2.0, "true": 1.0, "forecast": 1.1, "success": True, "t_eq": 90,
    ...               "t_eq_ratio": 0.9, "t_eq_censored": False})
    'at t2 2, true 1, forecast 1.1: lower than at t2; T_eq/T 0.9 (90 steps)'
    """
    judged = "lower than at t2" if loss["success"] else "not lower than at t2"
    text = f"at t2 {loss['at_t2']:.4g}, true {loss['true']:.4g}, forecast {loss['forecast']:.4g}: {judged}"
    if loss["t_eq"] is None:
        return text
    bound = ">= " if loss["t_eq_censored"] else ""
    return f"{text}; T_eq/T {bound}{loss['t_eq_ratio']:.3g} ({bound}{loss['t_eq']:.0f} steps)"


def baselines_verdict(loss: Mapping[str, Any]) -> str:
    """Say what loss the baselines reach.

    >>> baselines_verdict({"at_t2": 2.0, "linear": 1.5, "mean": None})
    'hold 2, linear 1.5'
    """
    named = {"hold": loss["at_t2"], "linear": loss["linear"], "mean": loss["mean"]}
    return ", ".join(f"{name} {value:.4g}" for name, value in named.items() if value is not None)


def conditioning_verdict(share: float) -> str:
    """Say how many groups an operator of full rank cannot be trusted on.

    >>> conditioning_verdict(0.27)
    'cond > 1e8 in 27 % of groups'
    """
    return f"cond > 1e8 in {100 * share:.0f} % of groups"


def backtest_verdict(race: Mapping[str, Any]) -> str:
    """Say what a backtest chose, the error it predicts at its largest lead, and how far a forecast is good.

    Parameters
    ----------
    race
        ``chosen``, ``leads``, ``predicted_error``, ``error_bound``, ``tolerance``, ``horizon`` and
        ``horizon_censored``.

    Examples
    --------
    >>> backtest_verdict({"chosen": {"kind": "linear", "window_share": 0.2}, "leads": [50, 100],
    ...     "predicted_error": [0.02, 0.06], "error_bound": [0.04, 0.12], "tolerance": 0.1, "horizon": 50,
    ...     "horizon_censored": False})
    'a straight line won; error 0.06 predicted 100 steps ahead (bound 0.12); within 0.1 up to 50 steps'
    """
    chosen = race["chosen"]
    won = {
        "hold": "holding still",
        "linear": "a straight line",
        "affine": "an affine fit",
        "mixture": "the mean of the best fits",
    }[chosen["kind"]]
    if race["horizon"]:
        further = " or more" if race["horizon_censored"] else ""
        reach = f"within {race['tolerance']:g} up to {race['horizon']} steps{further}"
    else:
        reach = f"not within {race['tolerance']:g} even {race['leads'][0]} steps ahead"
    return (
        f"{won} won; error {race['predicted_error'][-1]:.2g} predicted {race['leads'][-1]} steps ahead "
        f"(bound {race['error_bound'][-1]:.2g}); {reach}"
    )
