"""Finding a stored fit again, and the recording it was made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import koopscope
from koopscope.errors import ResultError, UsageError
from koopscope_cli.output_folder import FIT, read_summary

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class StoredFit:
    """A fit read back, with the folder it lies in and the summary beside it, if there is one."""

    fit: xr.DataTree
    store: Path
    summary: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Where results that belong to the fit are put by default."""
        return self.store.parent

    def open_recording(self, path: str | None) -> xr.Dataset:
        """Open the recording of the fit, with the tensors that were fitted.

        Parameters
        ----------
        path
            Where the recording is; None takes the place the fit remembers.

        Raises
        ------
        UsageError
            If the fit remembers no place.
        """
        source = path or self.summary.get("input") or self.fit.attrs.get("source")
        if not source:
            raise UsageError(
                f"{self.store} does not say where its recording is; give it with --trajectory PATH"
            )
        names = [_literal(tensor["name"]) for tensor in self.fit.attrs["tensors"]]
        opening = {name: self.summary.get(name) for name in ("layout", "run")}
        return koopscope.open_trajectory(source, include=names, **opening)


def load_fit(path: Path) -> StoredFit:
    """Read a fit from the folder of ``koopscope fit``, or from a fit.zarr.

    Raises
    ------
    ResultError
        If there is no fit at ``path``.
    """
    store = path / FIT if (path / FIT).is_dir() else path
    if not store.is_dir():
        raise ResultError(f"{path}: expected the folder that `koopscope fit` wrote, or a {FIT}")
    fit = koopscope.load(store)
    kind = fit.attrs["koopscope_result"]
    if kind != "fit":
        raise ResultError(
            f"{store} holds another result ({kind}), not a fit; give the folder that `koopscope fit` wrote"
        )
    return StoredFit(fit, store, read_summary(store.parent) or {})


def _literal(name: str) -> str:
    """Spell a tensor's name as a glob that matches nothing else."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
