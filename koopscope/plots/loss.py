"""The loss at a forecast, beside the loss that the optimiser reached."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes

from koopscope.errors import ResultError
from koopscope.fit_tree import require_kind
from koopscope.plots import style
from koopscope.plots.reading import Floats

_KNOWN = ("recorded_loss", "loss_at_t2", "loss_true")
_CEILING = 1e3  # a forecast's loss beyond this multiple of the others is drawn at the border
_PLACE = (0.13, 0.12, 0.55, 0.76)  # room on the right for the legend
_MOSTLY = 0.99
_LOG_FROM = 5.0  # ratio of largest to smallest loss from which a logarithmic axis reads better


def plot_loss(verification: xr.DataTree, *, ax: Axes | None = None) -> Axes:
    """Draw the recorded loss over steps with the loss at the true and the forecast weights.

    An arrow at the height of the forecast's loss, at the largest lead, leads from t2 to where the
    optimiser first reached it: T_eq steps. The axis of the loss is logarithmic where the losses are
    positive and differ by a factor of five or more.

    Parameters
    ----------
    verification
        Result of `koopscope.verify` with ``loss=``.
    ax
        Where to draw; by default a figure of its own.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ResultError
        If ``verification`` is something else, or was made without a loss.

    Examples
    --------
    >>> import koopscope
    >>> import numpy as np
    >>> from koopscope.simulation import linear_run
    >>> run = linear_run(drift=0.0)
    >>> end = {name: run[name].values[-1] for name in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")}
    >>> def loss(params):
    ...     return sum(((params[name] - end[name]) ** 2).sum() for name in end) / 26
    >>> fitted = koopscope.fit(run, "node", t2=600, lag=10)
    >>> ax = plot_loss(koopscope.verify(fitted, run, [100, 200], loss=loss))
    >>> ax.get_ylabel()
    'loss'
    """
    require_kind(verification, "verification")
    if "loss" not in verification.children:
        raise ResultError(
            "this verification holds no loss; koopscope.verify(fit, trajectory, loss=...) with a callable "
            "loss(params) -> float adds it"
        )
    figures = verification["loss"].to_dataset()
    figures = figures.isel(lead=np.argsort(figures["lead"].to_numpy(), kind="stable"))
    t2 = int(verification.attrs["t2"])
    axes = style.axes_for(ax, place=_PLACE)
    _draw(axes, figures, t2)
    _scale(axes, figures)
    saving = _draw_saving(axes, figures.isel(lead=-1), t2)
    style.label_steps(axes)
    axes.set_ylabel("loss")
    handles = axes.get_legend_handles_labels()[0]
    style.legend_beside(axes, [*handles, *map(style.remark, saving)])
    success = np.count_nonzero(figures["success"].to_numpy())
    partition, method = style.shortened(str(verification.attrs["partition"])), verification.attrs["method"]
    style.title(
        axes,
        f"{partition}, {method}: loss of the forecast from t2 = {t2}",
        f"below the loss at t2 at {success} of {style.counted(figures.sizes['lead'], 'lead')}",
    )
    return axes


def _draw(ax: Axes, figures: xr.Dataset, t2: int) -> None:
    if "recorded_loss" in figures:
        recorded = figures["recorded_loss"]
        ax.plot(
            figures["step_recorded"].to_numpy(),
            recorded.to_numpy(),
            color=style.GREY,
            linewidth=1.0,
            label="recorded",
        )
    steps = t2 + figures["lead"].to_numpy()
    ax.axvline(t2, color=style.GREY, linewidth=1.0, linestyle=":")
    ax.plot([t2], [float(figures["loss_at_t2"])], "s", color="black", markersize=5, label="at t2")
    ax.plot(
        steps,
        figures["loss_true"].to_numpy(),
        "o",
        color=style.PALETTE[0],
        markerfacecolor="none",
        markersize=9,
        label="true weights",
    )
    _draw_forecast(ax, figures, steps)


def _draw_forecast(ax: Axes, figures: xr.Dataset, steps: npt.NDArray[np.int64]) -> None:
    forecast = figures["loss_forecast"].to_numpy()
    ceiling = _CEILING * max(float(np.max(_losses(figures, *_KNOWN))), 0.0)
    seen = np.isfinite(forecast) & (forecast <= ceiling)
    orange = style.PALETTE[3]
    ax.plot(
        steps,
        np.where(seen, forecast, np.nan),
        "X--",
        color=orange,
        linewidth=1.0,
        markersize=6,
        label="forecast weights",
    )
    beyond = np.isfinite(forecast) & ~seen
    if beyond.any():
        label = f"forecast beyond the\nview, largest {forecast[beyond].max():.3g}"
        edge = np.full(np.count_nonzero(beyond), 0.97)
        ax.plot(steps[beyond], edge, "^", color=orange, transform=ax.get_xaxis_transform(), label=label)
    diverged = np.count_nonzero(~np.isfinite(forecast))
    if diverged:
        leads = style.counted(forecast.size, "lead")
        style.message(ax, f"forecast diverged: no loss at {diverged} of {leads}", y=0.8)


def _losses(figures: xr.Dataset, *names: str) -> Floats:
    values = np.concatenate([figures[name].to_numpy().ravel() for name in names if name in figures])
    return np.asarray(values[np.isfinite(values)], np.float64)


def _scale(ax: Axes, figures: xr.Dataset) -> None:
    drawn = _losses(figures, *_KNOWN)
    positive = drawn[drawn > 0]
    # A loss that reaches zero exactly, at the end of an exact run, must not hide all that came before.
    mostly = positive.size >= _MOSTLY * drawn.size and drawn.min() >= 0
    if mostly and positive.max() >= _LOG_FROM * positive.min():
        ax.set_yscale("log", nonpositive="mask")
    else:
        ax.ticklabel_format(axis="y", useOffset=False)


def _draw_saving(ax: Axes, figures: xr.Dataset, t2: int) -> list[str]:
    """Draw T_eq of one lead, and give it in words."""
    height, lead = float(figures["loss_forecast"]), int(figures["lead"])
    if not np.isfinite(height):
        return []
    if "t_eq" not in figures:
        return ["the recording holds\nno loss: T_eq unknown"]
    saved, ratio = int(figures["t_eq"]), float(figures["t_eq_ratio"])
    if not figures["success"]:
        return [f"at lead {lead} above\nthe loss at t2:\nno step saved"]
    bound = bool(figures["t_eq_censored"])
    style_of_arrow = {
        "arrowstyle": "->",
        "color": style.PALETTE[3],
        "linewidth": 1.5,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    ax.annotate("", xy=(t2 + saved, height), xytext=(t2, height), arrowprops=style_of_arrow)
    reached = "not reached by the\noptimiser within" if bound else "reached by the\noptimiser after"
    steps, relation = style.counted(saved, "step"), "≥" if bound else "="
    return [f"at lead {lead} a loss\n{reached}\n{steps}: T_eq/T {relation} {ratio:.2f}"]
