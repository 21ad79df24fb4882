"""Forecast weights as a framework wants them back: its names, its dtypes, tied weights twice."""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from koopscope.errors import ResultError, UsageError
from koopscope.targets import require_free_file
from koopscope.weight_vector import TensorSlot, WeightVector

SUFFIXES = (".npz", ".safetensors")
FRAMEWORKS = ("numpy", "torch")
_BFLOAT16 = "bfloat16"


def state_dict(forecast: xr.Dataset, lead: int | None = None, *, framework: str = "numpy") -> dict[str, Any]:
    """Turn a forecast into a mapping of the framework's own names to arrays of its own dtypes.

    Tied weights appear under each of their names, weights that never moved at their value. What was not
    recorded, such as buffers or excluded tensors, comes from the model:
    ``model.load_state_dict(model.state_dict() | koopscope.state_dict(forecast, framework="torch"))``.

    Parameters
    ----------
    forecast
        Result of `koopscope.predict`.
    lead
        Which of its leads; may be left out where there is only one.
    framework
        ``"numpy"`` for arrays (bfloat16 needs ml_dtypes), or ``"torch"`` for tensors that
        ``load_state_dict`` takes.

    Returns
    -------
    dict
        Names to arrays in the tensors' own shapes; second names of a tied weight share its array.

    Raises
    ------
    UsageError
        If the lead is not in the forecast or not said, or a library that is needed is not installed.
    ResultError
        If ``forecast`` is something else, or not finite at this lead in its own dtype.

    Examples
    --------
    >>> import koopscope
    >>> from koopscope.simulation import linear_run
    >>> forecast = koopscope.predict(koopscope.fit(linear_run(dtype="float32"), t2=800, lag=10), 200)
    >>> weights = state_dict(forecast)
    >>> weights["fc2.weight"].shape, str(weights["fc2.weight"].dtype)
    ((2, 4), 'float32')
    """
    if framework not in FRAMEWORKS:
        raise UsageError(f"framework must be one of {', '.join(FRAMEWORKS)}; got {framework!r}")
    slots, at_lead = _at_lead(forecast, lead)
    cast = _as_torch if framework == "torch" else _as_numpy
    found: dict[str, Any] = {}
    for slot in slots:
        values = cast(_finite(at_lead[slot.name].to_numpy(), slot, int(at_lead["lead"])), slot)
        found |= dict.fromkeys((slot.source_name, *slot.tied), values)
    return found


def export(
    forecast: xr.Dataset,
    path: str | os.PathLike[str],
    lead: int | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write a forecast as an ``.npz`` or ``.safetensors`` file of weights under the framework's own names.

    The file appears only when it is complete. NumPy has no bfloat16: in an ``.npz`` such weights are
    rounded to it and stored as float32, which holds them exactly.

    Parameters
    ----------
    forecast
        Result of `koopscope.predict`.
    path
        File to write; its suffix settles the format.
    lead
        Which of its leads; may be left out where there is only one.
    overwrite
        Replace a file that is there.

    Raises
    ------
    UsageError
        If the suffix is another, or as `state_dict`.
    OutputExistsError
        If something is there already.
    ResultError
        As `state_dict`.

    Examples
    --------
    >>> import koopscope, pathlib, tempfile
    >>> from koopscope.simulation import linear_run
    >>> forecast = koopscope.predict(koopscope.fit(linear_run(), t2=800, lag=10), 200)
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "weights.npz"
    >>> export(forecast, path)
    >>> sorted(np.load(path).files)
    ['fc1.bias', 'fc1.weight', 'fc2.bias', 'fc2.weight']
    """
    place = Path(path)
    _check_target(place, overwrite=overwrite)
    weights = state_dict(forecast, lead)
    write = _write_npz if place.suffix == ".npz" else _write_safetensors
    with tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as folder:
        partial = Path(folder) / place.name
        write(weights, partial)
        usual = Path(folder) / "usual"
        usual.touch()
        shutil.copymode(usual, partial)  # safetensors lets nobody but the owner read its files
        os.replace(partial, place)


def _check_target(path: Path, *, overwrite: bool) -> None:
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path}: expected a name that ends in {' or '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}")
    require_free_file(path, overwrite=overwrite)


def _at_lead(forecast: xr.Dataset, lead: int | None) -> tuple[tuple[TensorSlot, ...], xr.Dataset]:
    if not isinstance(forecast, xr.Dataset) or forecast.attrs.get("koopscope_result") != "forecast":
        raise ResultError(
            f"expected a forecast, got a {type(forecast).__name__}; koopscope.predict makes one"
        )
    leads = forecast["lead"].to_numpy().tolist()
    if lead is None and len(leads) > 1:
        raise UsageError(f"the forecast holds the leads {', '.join(map(str, leads))}: say which to take")
    chosen = leads[0] if lead is None else lead
    if chosen not in leads:
        raise UsageError(f"lead={chosen} is not in the forecast, which holds {', '.join(map(str, leads))}")
    slots = WeightVector.from_attrs(forecast.attrs["tensors"]).tensors
    return slots, forecast.isel(lead=leads.index(chosen))


def _finite(values: npt.NDArray[Any], slot: TensorSlot, lead: int) -> npt.NDArray[Any]:
    largest = np.finfo(np.float32 if slot.source_dtype == _BFLOAT16 else slot.source_dtype).max
    if not (np.abs(values) <= largest).all():
        raise ResultError(
            f"{slot.name} is not finite in {slot.source_dtype} {lead} steps after t2: the forecast diverges; "
            "take a smaller lead"
        )
    return values


def _as_numpy(values: npt.NDArray[Any], slot: TensorSlot) -> npt.NDArray[Any]:
    if slot.source_dtype != _BFLOAT16:
        return np.asarray(values, slot.source_dtype, order="C")
    return np.asarray(values.astype(_library("ml_dtypes", "checkpoints").bfloat16))


def _as_torch(values: npt.NDArray[Any], slot: TensorSlot) -> Any:
    torch = _library("torch", "data")
    # A copy: the forecast must not change with the model.
    return torch.tensor(values, dtype=getattr(torch, slot.source_dtype))


def _library(name: str, extra: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(f"this needs {name}: pip install 'koopscope[{extra}]'") from error


def _write_npz(weights: dict[str, Any], path: Path) -> None:
    plain = {
        name: values.astype(np.float32) if values.dtype.name == _BFLOAT16 else values
        for name, values in weights.items()
    }
    np.savez(path, **plain)


def _write_safetensors(weights: dict[str, Any], path: Path) -> None:
    library = _library("safetensors", "checkpoints")
    try:
        _library("safetensors.numpy", "checkpoints").save_file(weights, path, metadata={"format": "pt"})
    except library.SafetensorError as error:  # of a full disk, for one
        raise OSError(f"{path.name} cannot be written: {error}") from error
