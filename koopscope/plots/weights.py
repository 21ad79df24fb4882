"""True against predicted weights over training steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from koopscope.errors import ResultError, UsageError
from koopscope.fit_tree import fitted_weights, require_kind
from koopscope.plots import style
from koopscope.plots.reading import Floats, columns_of, flat_at, lead_position
from koopscope.trajectory import validate
from koopscope.weight_vector import WeightVector

_FEW = 40  # leads up to which each is marked, since only there the forecast was compared
_NAMED = 10  # curves up to which each is named; of more, as many, spread over the walk of colours
_LONGEST = 26  # characters of a name in the legend; the end of it tells weights apart
_RUNAWAY = 10.0  # a forecast range beyond this multiple of the true one must not set the view

Weights = int | Sequence[tuple[str, tuple[int, ...]]]


def plot_weights(
    verification: xr.DataTree,
    *,
    trajectory: xr.Dataset | None = None,
    weights: Weights = 6,
    ax: Axes | None = None,
) -> Axes:
    """Draw true (solid) and predicted (dashed) changes of a few weights from w(t2), over steps.

    Changes, since weights differ from each other by far more than they move.

    Parameters
    ----------
    verification
        Result of `koopscope.verify`; several leads make curves of it.
    trajectory
        The recording that was verified; adds the true curves from t1 on, at every recorded step. Only
        the weights drawn are read. The view begins as long before t2 as it ends after it.
    weights
        How many: those that moved farthest at the largest lead, taken from the layers in turn. Or which:
        ``[("fc1.weight", (3, 2)), ...]``.
    ax
        Where to draw; by default a figure of its own.

    Returns
    -------
    matplotlib.axes.Axes
        A solid and a dashed line a weight, labelled such as ``fc1.weight[3,2]``; t2 is marked.

    Raises
    ------
    ResultError
        If ``verification`` is something else, or ``trajectory`` another recording.
    UsageError
        If a weight asked for does not exist.

    Examples
    --------
    >>> import koopscope
    >>> from koopscope.simulation import linear_run
    >>> run = linear_run()
    >>> verification = koopscope.verify(koopscope.fit(run, "node", t2=800, lag=10), run, [50, 100, 200])
    >>> ax = plot_weights(verification, trajectory=run, weights=[("fc1.weight", (3, 2)), ("fc2.bias", (0,))])
    >>> [line.get_label() for line in ax.lines if line.get_linestyle() == "-"]
    ['fc1.weight[3,2]', 'fc2.bias[0]']
    """
    require_kind(verification, "verification")
    vector = fitted_weights(verification)
    chosen = _choose(verification, vector, weights)
    t2 = int(verification.attrs["t2"])
    leads = verification["lead"].to_numpy()
    order = np.argsort(leads, kind="stable")
    evolution = columns_of(verification, "evolution", chosen)[order]
    error = columns_of(verification, "error", chosen)[order]
    steps = np.concatenate([[t2], t2 + leads[order]])
    true = np.concatenate([np.zeros((1, len(chosen))), evolution])
    predicted = np.concatenate([np.zeros((1, len(chosen))), evolution + error])
    axes = style.axes_for(ax)
    recorded = None if trajectory is None else _recorded(verification, vector, trajectory, chosen)
    labels = [_label(vector, flat) for flat in chosen]
    _draw(axes, recorded or (steps, true), (steps, predicted), labels)
    _draw_t2(axes, t2)
    handles = _handles(axes, marked=steps.size <= _FEW)
    left = max(int(verification.attrs["t1"]), t2 - int(leads.max())) if recorded else t2
    handles += _limit_view(axes, recorded or (steps, true), predicted, left)
    style.legend_beside(axes, handles)
    style.label_steps(axes)
    axes.set_ylabel("change of the weight from w(t2)")
    partition, method = style.shortened(str(verification.attrs["partition"])), verification.attrs["method"]
    style.title(
        axes,
        f"{partition}, {method}: true and predicted weights",
        f"up to {style.counted(int(leads.max()), 'step')} after t2 = {t2}",
    )
    return axes


def _choose(verification: xr.DataTree, vector: WeightVector, weights: Weights) -> list[int]:
    if not isinstance(weights, int):
        chosen = [_flat_index(vector, name, tuple(index)) for name, index in weights]
    else:
        moved = np.abs(flat_at(verification, "evolution", lead_position(verification, None)))
        chosen = _farthest(vector, moved, weights)
    if not chosen:
        raise UsageError(f"weights must name or count at least one weight, got {weights!r}")
    return chosen


def _farthest(vector: WeightVector, moved: Floats, number: int) -> list[int]:
    """Take each layer's farthest first, then each layer's second, until there are enough."""
    ranked: list[tuple[int, float, int]] = []
    for tensors in vector.layers.values():
        members = np.concatenate([vector.flat_indices(tensor).ravel() for tensor in tensors])
        best = members[np.argsort(-moved[members], kind="stable")[: max(number, 0)]]
        ranked += [(rank, -float(moved[flat]), int(flat)) for rank, flat in enumerate(best)]
    return sorted(flat for _, _, flat in sorted(ranked)[: max(number, 0)])


def _flat_index(vector: WeightVector, name: str, index: tuple[int, ...]) -> int:
    for tensor, slot in enumerate(vector.tensors):
        if slot.name != name:
            continue
        if len(index) != len(slot.shape) or not all(
            0 <= i < n for i, n in zip(index, slot.shape, strict=True)
        ):
            raise UsageError(f"weights: {name} has shape {slot.shape}, and no weight at {index}")
        return int(vector.flat_indices(tensor)[index])
    names = ", ".join(slot.name for slot in vector.tensors)
    raise UsageError(f"weights: there is no tensor {name!r}; the fit was made on {names}")


def _label(vector: WeightVector, flat: int) -> str:
    name, index = vector.locate(flat)
    return f"{name}[{','.join(map(str, index))}]" if index else name


def _recorded(
    verification: xr.DataTree, vector: WeightVector, trajectory: xr.Dataset, chosen: list[int]
) -> tuple[npt.NDArray[np.int64], Floats]:
    """Read the chosen weights from t1 to the largest lead, as changes from w(t2)."""
    validate(trajectory)
    t1, t2 = int(verification.attrs["t1"]), int(verification.attrs["t2"])
    steps = trajectory["step"].to_numpy().astype(np.int64)
    first, at = np.searchsorted(steps, [t1, t2])
    stop = np.searchsorted(steps, t2 + int(verification["lead"].to_numpy().max()), side="right")
    columns = []
    for flat in chosen:
        name, index = vector.locate(flat)
        start = verification["start"][name].to_numpy()
        held = trajectory[name].shape[1:] if name in trajectory else None
        column = None
        if held == start.shape and at < steps.size and steps[at] == t2:
            column = np.asarray(trajectory[name].variable[(slice(first, stop), *index)].values, np.float64)
        if column is None or column[at - first] != start[index]:
            raise ResultError(
                f"the recording does not hold {_label(vector, flat)} = {start[index]:.9g} at t2={t2}, where "
                f"the fit ends; give the recording that was fitted ({verification.attrs['source']})"
            )
        columns.append(column - start[index])
    return steps[first:stop], np.stack(columns, axis=1)


def _draw(
    ax: Axes,
    true: tuple[npt.NDArray[np.int64], Floats],
    predicted: tuple[npt.NDArray[np.int64], Floats],
    labels: list[str],
) -> None:
    marker = "o" if predicted[0].size <= _FEW else ""
    finite = np.where(np.isfinite(predicted[1]), predicted[1], np.nan)
    for number, (label, colour) in enumerate(zip(labels, style.curve_colours(len(labels)), strict=True)):
        ax.plot(true[0], true[1][:, number], color=colour, linewidth=1.4, label=label)
        ax.plot(
            predicted[0],
            finite[:, number],
            color=colour,
            linestyle="--",
            marker=marker,
            markersize=3.5,
            markerfacecolor="white",
            label=f"{label} predicted",
        )


def _draw_t2(ax: Axes, t2: int) -> None:
    ax.axvline(t2, color=style.GREY, linewidth=1.0, linestyle=":", label="t2")


def _handles(ax: Axes, *, marked: bool) -> list[Artist]:
    solid = [line for line in ax.lines if line.get_linestyle() == "-"]
    shown = np.unique(np.linspace(0, len(solid) - 1, min(_NAMED, len(solid))).astype(int))
    named: list[Artist] = [
        Line2D([], [], color=solid[i].get_color(), linewidth=1.4, label=_ending(str(solid[i].get_label())))
        for i in shown
    ]
    if len(solid) > len(named):
        named.append(style.remark(f"and {len(solid) - len(named)} between these"))
    return [
        *named,
        Line2D([], [], color=style.GREY, label="true"),
        Line2D(
            [],
            [],
            color=style.GREY,
            linestyle="--",
            marker="o" if marked else "",
            markersize=3.5,
            markerfacecolor="white",
            # Between the marks the dashes are no forecast.
            label="predicted\n(at the marks)" if marked else "predicted",
        ),
        Line2D([], [], color=style.GREY, linewidth=1.0, linestyle=":", label="t2"),
    ]


def _ending(name: str) -> str:
    return name if len(name) <= _LONGEST else "…" + name[1 - _LONGEST :]


def _limit_view(
    ax: Axes, true: tuple[npt.NDArray[np.int64], Floats], predicted: Floats, left: int
) -> list[Artist]:
    """Show as many steps before t2 as after it, and keep a runaway forecast from flattening the rest."""
    finite = np.isfinite(predicted)
    if not finite.all():
        count = np.count_nonzero(~finite.all(axis=0))
        style.message(ax, f"forecast diverged:\n{count} of these {predicted.shape[1]} weights are not finite")
    shown, within = true[1][true[0] >= left], predicted[finite]
    low, high = float(shown.min()), float(shown.max())
    lowest, highest = min(low, float(within.min())), max(high, float(within.max()))
    span = high - low
    runaway = span > 0 and highest - lowest > _RUNAWAY * span
    if runaway:
        lowest, highest = low - span, high + span
    right = int(true[0][-1])
    ax.set_xlim(left - 0.03 * (right - left), right + 0.03 * (right - left))
    if highest > lowest:
        ax.set_ylim(lowest - 0.05 * (highest - lowest), highest + 0.05 * (highest - lowest))
    return [style.remark("predicted leaves\nthe view")] if runaway else []
