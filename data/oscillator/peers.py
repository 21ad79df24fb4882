"""What others offer for the same forecast, driven as well as we know: PyDMD, lines, and an autoregression.

Each method takes snapshots of the window about the last one, shape ``(snapshot, weight)``, and returns the
change it forecasts ``n_lead`` snapshots on. Where a method does not pass through the last snapshot, its own
value there is taken off, which serves all of them. Needs ``pip install pydmd statsmodels``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Settings = dict[str, Any]
Forecast = Callable[..., Floats]

STRIDE = 100  # recorded rows between snapshots


def dmd(rows: Floats, n_lead: int, *, svd_rank: int, delays: int) -> Floats:
    """PyDMD's HankelDMD; one delay is plain DMD. A constant column lets it hold an offset."""
    from pydmd import DMD, HankelDMD

    augmented = _with_constant(rows).T
    model = DMD(svd_rank=svd_rank) if delays == 1 else HankelDMD(svd_rank=svd_rank, d=delays)
    model.fit(augmented)
    last = rows.shape[0] - 1
    model.dmd_time["tend"] = last + n_lead
    found = model.reconstructed_data.real.T[:, :-1]
    return np.asarray(found[last + n_lead] - found[last])


def bopdmd(rows: Floats, n_lead: int, *, svd_rank: int) -> Floats:
    """PyDMD's BOPDMD without bagging: optimised DMD by variable projection."""
    from pydmd import BOPDMD

    last = rows.shape[0] - 1
    model = BOPDMD(svd_rank=svd_rank, num_trials=0, varpro_opts_dict={"maxiter": 10})
    model.fit(_with_constant(rows).T, np.arange(last + 1, dtype=float))
    found = model.forecast(np.array([last, last + n_lead], dtype=float)).real.T[:, :-1]
    return np.asarray(found[1] - found[0])


def autoregression(rows: Floats, n_lead: int, *, components: int, lags: int, trend: str) -> Floats:
    """statsmodels' AutoReg on each leading principal component."""
    from statsmodels.tsa.ar_model import AutoReg

    left, singular, right = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    scores = left[:, :components] * singular[:components]
    n = rows.shape[0]
    moved = [
        AutoReg(series, lags, trend=trend).fit().predict(start=n, end=n + n_lead - 1)[-1] - series[-1]
        for series in scores.T
    ]
    return np.asarray(moved @ right[:components])


def linear(rows: Floats, n_lead: int, *, share: float) -> Floats:
    """Least-squares slope of the end of the window."""
    used = rows[-max(2, round(share * rows.shape[0])) :]
    times = np.arange(used.shape[0]) - (used.shape[0] - 1) / 2
    return np.asarray(n_lead * (times @ used) / (times @ times))


def last_value(rows: Floats, n_lead: int) -> Floats:
    """No change."""
    return np.zeros(rows.shape[1])


PEERS: dict[str, tuple[Forecast, list[Settings]]] = {
    "last value": (last_value, [{}]),
    "linear": (linear, [{"share": share} for share in (0.1, 0.2, 0.5, 1.0)]),
    "PyDMD DMD": (dmd, [{"svd_rank": rank, "delays": 1} for rank in (5, 8, 12, 20)]),
    "PyDMD HankelDMD": (
        dmd,
        [{"svd_rank": rank, "delays": delays} for rank in (5, 12, 20) for delays in (10, 20, 30)],
    ),
    "PyDMD BOPDMD": (bopdmd, [{"svd_rank": 5}]),
    "autoregression": (
        autoregression,
        [
            {"components": components, "lags": lags, "trend": trend}
            for components in (3, 10)
            for lags in (1, 5, 20)
            for trend in ("c", "ct")
        ],
    ),
}


def error(
    method: tuple[Forecast, Any], settings: Settings, rows: Floats, n_window: int, n_lead: int
) -> float:
    """Relative error of one forecast; infinite where the method fails or its forecast is not finite."""
    window = rows[: n_window + 1] - rows[n_window]
    truth = rows[n_window + n_lead] - rows[n_window]
    # Peers warn about condition numbers and convergence; that is their verdict on the data, not ours.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            moved = method[0](window, n_lead, **settings)
        except (ValueError, np.linalg.LinAlgError):
            return float("inf")
    miss = float(np.linalg.norm(moved - truth) / np.linalg.norm(truth))
    return miss if np.isfinite(miss) else float("inf")


def tune(
    method: tuple[Forecast, list[Settings]], runs: Sequence[Floats], n_window: int, n_lead: int
) -> Settings:
    """Choose the settings with the least median error on runs that are not judged."""
    if len(method[1]) == 1:
        return method[1][0]
    medians = [
        np.median([error(method, settings, rows, n_window, n_lead) for rows in runs])
        for settings in method[1]
    ]
    return method[1][int(np.argmin(medians))]


def _with_constant(rows: Floats) -> Floats:
    size = np.abs(rows).max() or 1.0
    return np.concatenate([rows, np.full((rows.shape[0], 1), size)], axis=1)
