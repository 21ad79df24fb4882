"""Modes in the shape of the tensors they move: which weights go with an eigenvalue, and which way."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from koopscope.errors import ResultError, UsageError
from koopscope.fit_tree import fitted_blocks, fitted_weights, require_kind
from koopscope.plots import style
from koopscope.weight_vector import WeightVector

Complex = npt.NDArray[np.complex128]

_COLOURS = "PuOr"  # diverging, and safe for the colour-blind; no change is white
_MISSING = "#D0D0D0"


def plot_modes(fit: xr.DataTree, tensor: str | None = None, *, mode: int = 0, ax: Axes | None = None) -> Axes:
    """Draw a mode in the shape of a tensor: each weight's share of the forecast's first lag.

    The real part of ``v_j c_j``, with ``v_j`` the mode lifted to the weights and ``c_j`` its share of the
    displacement; for one of a conjugate pair that of the pair. Every group shows its own mode of that rank
    (largest modulus first), so with one operator a node each row is one operator's.

    Parameters
    ----------
    fit
        Result of `koopscope.fit`.
    tensor
        Name of the tensor; by default the one with the most weights.
    mode
        Which mode of each group, 0 for the largest modulus.
    ax
        Where to draw; by default a figure of its own.

    Returns
    -------
    matplotlib.axes.Axes
        An image with output units down and all else across; weights of groups that have no such mode are
        grey.

    Raises
    ------
    ResultError
        If ``fit`` is something else, or holds no such mode.
    UsageError
        If there is no such tensor, or ``mode`` is negative.

    Examples
    --------
    >>> import koopscope
    >>> from koopscope.simulation import linear_run
    >>> ax = plot_modes(koopscope.fit(linear_run(), "node", t2=800, lag=10), "fc1.weight")
    >>> ax.images[0].get_array().shape
    (4, 3)
    """
    require_kind(fit, "fit")
    weights = fitted_weights(fit)
    number = _tensor_number(weights, tensor)
    if mode < 0:
        raise UsageError(f"mode counts from 0, the largest modulus; got {mode}")
    values, flat = _shares(fit, weights, number, mode)
    if not values.size:
        raise ResultError(
            f"no group of this tensor has a mode {mode}; the largest rank is {_largest_rank(fit)}"
        )
    slot = weights.tensors[number]
    axis = slot.output_axes[0] if slot.output_axes else 0
    share = np.moveaxis(np.atleast_1d(flat[weights.flat_indices(number)]), axis if slot.shape else 0, 0)
    picture = share.reshape(share.shape[0], -1)
    axes = Figure(figsize=(6.4, 4.8)).add_axes((0.12, 0.14, 0.68, 0.7)) if ax is None else ax
    largest = float(np.nanmax(np.abs(picture))) if np.isfinite(picture).any() else 0.0
    axes.set_facecolor(_MISSING)
    limit = largest or 1.0
    image = axes.imshow(
        picture, cmap=_COLOURS, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest"
    )
    form = ScalarFormatter()
    form.set_powerlimits((-2, 3))
    bar = axes.figure.colorbar(image, cax=axes.inset_axes((1.03, 0.0, 0.04, 1.0)), format=form)
    bar.set_label("change over one lag (weights)", fontsize=style.SMALL)
    bar.ax.tick_params(labelsize=style.SMALL)
    axes.set(xlabel=_across(slot.shape, axis), ylabel="output unit")
    for one in (axes.xaxis, axes.yaxis):
        one.set_major_locator(MaxNLocator(6, integer=True))
    if picture.shape[1] == 1:
        axes.set_xticks([])
    style.title(axes, *_title(fit, slot.name, mode, values))
    return axes


def _tensor_number(weights: WeightVector, tensor: str | None) -> int:
    names = [slot.name for slot in weights.tensors]
    if tensor is None:
        return int(np.argmax([slot.size for slot in weights.tensors]))
    if tensor not in names:
        raise UsageError(f"there is no tensor {tensor!r}; the fit was made on {', '.join(names)}")
    return names.index(tensor)


def _shares(
    fit: xr.DataTree, weights: WeightVector, tensor: int, mode: int
) -> tuple[Complex, npt.NDArray[np.float64]]:
    """List one mode's eigenvalue of each group of a tensor that has it, and the shares of their weights."""
    flat, found = np.full(weights.size, np.nan), [np.empty(0, np.complex128)]
    for block in fitted_blocks(fit):
        members = block["member_index"].to_numpy()
        inside = (members >= weights.offsets[tensor]) & (members < weights.offsets[tensor + 1])
        has = inside.any(axis=1) & (block["rank"].to_numpy() > mode)
        has &= np.isfinite(block["operator"].to_numpy()).all(axis=(1, 2))
        if not has.any():
            continue
        operator, displacement = block["operator"].to_numpy()[has], block["displacement"].to_numpy()[has]
        values, right = np.linalg.eig(operator)
        order = np.lexsort((-values.imag, -np.abs(values)), axis=-1)[:, mode : mode + 1]
        share = np.einsum("gms,gs->gm", np.linalg.pinv(right), displacement)
        value = np.take_along_axis(values, order, axis=1)[:, 0]
        vector = np.take_along_axis(right, order[:, None, :], axis=2)[:, :, 0]
        moved = (vector * np.take_along_axis(share, order, axis=1)).real
        moved = np.where(value.imag[:, None] != 0, 2 * moved, moved)
        if "basis" in block:
            moved = np.einsum("gms,gs->gm", block["basis"].to_numpy()[has], moved)
        flat[members[has]] = moved
        found.append(value.astype(np.complex128))
    return np.concatenate(found), flat


def _largest_rank(fit: xr.DataTree) -> int:
    return max(int(block["rank"].max()) for block in fitted_blocks(fit))


def _across(shape: tuple[int, ...], axis: int) -> str:
    rest = [str(size) for number, size in enumerate(shape) if number != axis]
    if len(rest) > 1:
        return f"weight of the unit ({' x '.join(rest)})"
    return "input" if rest else "bias"


def _title(fit: xr.DataTree, name: str, mode: int, values: Complex) -> tuple[str, str]:
    modulus = np.abs(values)
    if values.size == 1:
        sign = f" {values[0].imag:+.3g}i" if values[0].imag else ""
        said = f"λ = {values[0].real:.6g}{sign} per lag of {style.counted(int(fit.attrs['lag']), 'step')}"
    else:
        said = f"|λ| from {modulus.min():.4g} to {modulus.max():.4g} over {values.size} groups"
    return (
        f"{style.shortened(name, 30)}, mode {mode} of {style.shortened(str(fit.attrs['partition']), 24)}",
        said,
    )
