"""Save and load results as Zarr stores: plain arrays and JSON, nothing pickled, bit for bit the same."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import xarray as xr
import zarr
from zarr.storage import MemoryStore

from koopscope.errors import OutputExistsError, ResultError
from koopscope.parallel import memory_budget
from koopscope.targets import require_outside_stores
from koopscope.trajectory.format import CHUNK_NAMES

TREES = ("fit", "verification")
TABLES = ("forecast", "spectrum", "backtest", "basin", "ensemble")
_KIND = "koopscope_result"
_OF_A_BLOCK = (
    *("operator", "displacement", "origin", "last", "slope", "member_index"),
    *("unit", "eigenvalue", "residual", "amplitude", "rank"),
)
_OF_A_FIT = ("method", "partition", "t1", "t2", "lag", "spacing", "delays", "tensors", "blocks")
_ENCODING = {"chunk_key_encoding": CHUNK_NAMES}


def save(result: xr.DataTree | xr.Dataset, path: str | os.PathLike[str]) -> None:
    """Write a result to a new Zarr store.

    The store appears under its name only when it is complete.

    Parameters
    ----------
    result
        What `koopscope.fit`, `koopscope.verify`, `koopscope.predict` or `koopscope.spectrum` returned.
    path
        A directory that does not exist yet.

    Raises
    ------
    OutputExistsError
        If something is there already.
    ResultError
        If the value is not a result of koopscope.

    Examples
    --------
    >>> import koopscope, tempfile, pathlib
    >>> from koopscope.simulation import linear_run
    >>> tree = koopscope.fit(linear_run(), "layer", t2=800)
    >>> place = pathlib.Path(tempfile.mkdtemp()) / "fit.zarr"
    >>> save(tree, place)
    >>> load(place).equals(tree)
    True
    """
    target = Path(path)
    kind = result.attrs.get(_KIND) if isinstance(result, (xr.DataTree, xr.Dataset)) else None
    if kind not in TREES + TABLES:
        raise ResultError(
            f"expected a result of koopscope.fit, verify, predict or spectrum, got {type(result).__name__}"
        )
    if target.exists() or target.is_symlink():
        raise OutputExistsError(f"{target} exists already; choose another name or remove it first")
    require_outside_stores(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        store = staging / "store"
        # Chunks of nothing but zeros or NaN too: so that a chunk that is not there is damage.
        with zarr.config.set({"array.write_empty_chunks": True}):
            if isinstance(result, xr.Dataset) and kind == "forecast" and result.nbytes > memory_budget() // 2:
                _write_by_lead(result, store)
            else:
                _write_store(result if isinstance(result, xr.DataTree) else xr.DataTree(result), store)
        os.replace(store, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write_store(tree: xr.DataTree, place: Path) -> None:
    """Encode in memory, then write: a fit is dozens of small arrays, each a thread of its own to Zarr."""
    encoded: dict[str, Any] = {}
    encoding = {
        node.path: dict.fromkeys(node.to_dataset(inherit=False).variables, _ENCODING) for node in tree.subtree
    }
    tree.to_zarr(MemoryStore(encoded), mode="w-", consolidated=False, zarr_format=3, encoding=encoding)
    for key, buffer in encoded.items():
        file = place / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(buffer.to_bytes())


def _write_by_lead(forecast: xr.Dataset, place: Path) -> None:
    """Write a forecast that is larger than memory a lead at a time, each in chunks of its own."""
    for position in range(forecast.sizes["lead"]):
        part = forecast.isel(lead=slice(position, position + 1))
        how: dict[str, Any] = {"append_dim": "lead"}
        if position == 0:
            how = {"mode": "w-", "zarr_format": 3, "encoding": dict.fromkeys(forecast.variables, _ENCODING)}
        part.to_zarr(place, consolidated=False, **how)


def load(path: str | os.PathLike[str]) -> Any:
    """Read a result back into memory.

    Parameters
    ----------
    path
        A store that `save` wrote.

    Returns
    -------
    xr.DataTree or xr.Dataset
        Of the kind that was saved.

    Raises
    ------
    ResultError
        If there is no result of koopscope at ``path``, or it is damaged.
    """
    source = Path(path)
    if not (source / "zarr.json").is_file():
        raise ResultError(f"{source} is not a stored result: there is no Zarr group there")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a missing chunk or array must not pass as a default
            with xr.open_datatree(source, engine="zarr", consolidated=False, chunks=None) as opened:
                tree = opened.load()
            missing = _missing(source)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, Warning) as error:
        raise ResultError(f"{source} cannot be read: {type(error).__name__}: {error}") from error
    kind = tree.attrs.get(_KIND)
    if kind not in TREES + TABLES:
        raise ResultError(f"{source} is a Zarr store, but no result of koopscope (no {_KIND!r} attribute)")
    if kind == "fit":
        missing += [f"the attribute {name!r}" for name in _OF_A_FIT if name not in tree.attrs]
        names = {f"{node.path}/{name}".lstrip("/") for node in tree.subtree for name in node.data_vars}
        parts = [f"{path}/{name}" for path in tree.attrs.get("blocks", []) for name in _OF_A_BLOCK]
        missing += [part for part in parts if part not in names]
    if missing:
        raise ResultError(f"{source} is damaged: {missing[0]} is missing; make the result again")
    return tree if kind in TREES else tree.to_dataset()


def _missing(source: Path) -> list[str]:
    """Name the arrays that lack a chunk, which would be read as zeros or NaN."""
    root = zarr.open_group(source, mode="r")
    return [
        f"a chunk of {array.path}"
        for _, array in root.members(max_depth=None)
        if isinstance(array, zarr.Array) and array.nchunks_initialized < array.nchunks
    ]
