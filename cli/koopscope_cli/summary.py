"""What ``--json`` and the tables say beyond `koopscope.summary`: loss and backtests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from koopscope.summary import describe_fit as describe_fit
from koopscope.summary import describe_verification as describe_verification
from koopscope.summary import to_json as to_json

if TYPE_CHECKING:
    import xarray as xr

_T_EQ = ("t_eq", "t_eq_ratio", "t_eq_censored")


def describe_loss(verification: xr.DataTree, lead: int) -> dict[str, Any] | None:
    """Summarise the loss figures at one lead; None where no loss was given.

    ``t_eq``, ``t_eq_ratio`` and ``t_eq_censored`` are None where the recording holds no loss; ``mean`` where
    no rows are averaged; ``filtered`` where no modes were dropped.
    """
    if "loss" not in verification.children:
        return None
    figures = verification["loss"].to_dataset().sel(lead=lead)
    described: dict[str, Any] = {"lead": lead, "success": bool(figures["success"])}
    described |= {key: figures.attrs[key] for key in ("metric", "smooth")}
    for key in ("at_t2", "true", "forecast", "linear", "mean"):
        described[key] = figures[f"loss_{key}"].item() if f"loss_{key}" in figures else None
    for key in _T_EQ:
        described[key] = figures[key].item() if key in figures else None
    described["filtered"] = None
    if "loss_filtered" in figures:
        value = float(figures["loss_filtered"])
        described["filtered"] = {"forecast": value, "success": value < described["at_t2"]}
        for key in _T_EQ:
            name = f"{key}_filtered"
            described["filtered"][key] = figures[name].item() if name in figures else None
    return described


def describe_backtest(fit: xr.DataTree) -> dict[str, Any] | None:
    """Summarise the race that ``--method auto`` ran; None where there was none."""
    return backtest_figures(fit["backtest"].to_dataset()) if fit.attrs["method"] == "auto" else None


def backtest_figures(race: xr.Dataset) -> dict[str, Any]:
    """Summarise a backtest: what it chose, the error it predicts by lead, and the horizon."""
    return {
        "chosen": dict(race.attrs["chosen"]),
        "fits": len(race.attrs["members"]),
        "leads": race["lead"].values.tolist(),
        "predicted_error": race["predicted_error"].values.tolist(),
        "error_bound": race["error_bound"].values.tolist(),
        "tolerance": race.attrs["tolerance"],
        "horizon": race.attrs["horizon"],
        "horizon_censored": race.attrs["horizon_censored"],
    }
