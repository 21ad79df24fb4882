"""``.koop`` on Datasets and DataTrees: koopscope's functions where the data is.

Importing this module registers both accessors with xarray; the first use of any of koopscope's functions
imports it.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import xarray as xr

import koopscope
from koopscope.errors import ResultError
from koopscope.summary import describe_fit, describe_verification

_HEADINGS = ("layer", "groups", "weights", "spectral radius")
_FIGURES = ("error_to_evolution", "skill_hold", "skill_linear", "verdict")


@xr.register_dataset_accessor("koop")  # type: ignore[no-untyped-call]
class DatasetAccessor:
    """koopscope's functions on a recording or a table of results.

    Examples
    --------
    >>> from koopscope.simulation import linear_run
    >>> run = linear_run()
    >>> run.koop.fit("node", t2=800, lag=10).koop.verify(run, 200).koop
    <koopscope verification: network forecast ...x closer than holding still, 200 steps after t2 = 800>
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        self._dataset = dataset

    def fit(self, partition: Any = None, **settings: Any) -> xr.DataTree:
        """Fit operators; see `koopscope.fit`."""
        return koopscope.fit(self._dataset, partition, **settings)

    def backtest(self, partition: Any = "auto", **settings: Any) -> xr.Dataset:
        """Race settings on the window; see `koopscope.backtest`."""
        return koopscope.backtest(self._dataset, partition, **settings)

    def inspect(self, **settings: Any) -> xr.Dataset:
        """Tabulate what the recording holds; see `koopscope.inspect`."""
        return koopscope.inspect(self._dataset, **settings)

    def plot_eigs(self, **settings: Any) -> Any:
        """Draw a spectrum; see `koopscope.plot_eigs`."""
        return koopscope.plot_eigs(self._dataset, **settings)

    def save(self, path: Any) -> None:
        """Store a result; see `koopscope.save`."""
        koopscope.save(self._dataset, path)

    def __repr__(self) -> str:
        """Say what the dataset is to koopscope."""
        kind = self._dataset.attrs.get("koopscope_result", "trajectory")
        return f"<koopscope {kind}: {dict(self._dataset.sizes)}>"


@xr.register_datatree_accessor("koop")  # type: ignore[no-untyped-call]
class DataTreeAccessor:
    """koopscope's functions on a fit or a verification; in a notebook, its table of verdicts."""

    def __init__(self, tree: xr.DataTree) -> None:
        self._tree = tree

    def predict(self, lead: int | Sequence[int]) -> xr.Dataset:
        """Forecast the weights; see `koopscope.predict`."""
        return koopscope.predict(self._tree, lead)

    def verify(self, trajectory: xr.Dataset, lead: Any = None, **settings: Any) -> xr.DataTree:
        """Measure the forecast against a recording; see `koopscope.verify`."""
        return koopscope.verify(self._tree, trajectory, lead, **settings)

    def spectrum(self) -> xr.Dataset:
        """List the eigenvalues; see `koopscope.spectrum`."""
        return koopscope.spectrum(self._tree)

    def end_point(self) -> xr.Dataset:
        """Say where the weights would end; see `koopscope.end_point`."""
        return koopscope.end_point(self._tree)

    def prune(self, fraction: float, **settings: Any) -> xr.Dataset:
        """Mask the smallest weights; see `koopscope.prune`."""
        return koopscope.prune(self._tree, fraction, **settings)

    def report(self, path: Any, **settings: Any) -> Any:
        """Write a page of HTML; see `koopscope.report`."""
        return koopscope.report(self._tree, path, **settings)

    def plot_eigs(self, **settings: Any) -> Any:
        """Draw the eigenvalues of a fit; see `koopscope.plot_eigs`."""
        return koopscope.plot_eigs(self._tree, **settings)

    def plot_modes(self, tensor: str | None = None, **settings: Any) -> Any:
        """Draw a mode in the shape of a tensor; see `koopscope.plot_modes`."""
        return koopscope.plot_modes(self._tree, tensor, **settings)

    def plot_error_vs_evolution(self, **settings: Any) -> Any:
        """Draw the errors of a verification; see `koopscope.plot_error_vs_evolution`."""
        return koopscope.plot_error_vs_evolution(self._tree, **settings)

    def plot_weights(self, **settings: Any) -> Any:
        """Draw weights of a verification over steps; see `koopscope.plot_weights`."""
        return koopscope.plot_weights(self._tree, **settings)

    def save(self, path: Any) -> None:
        """Store the result; see `koopscope.save`."""
        koopscope.save(self._tree, path)

    def __repr__(self) -> str:
        """Say in one line what the result found."""
        kind = _kind(self._tree)
        if kind == "verification":
            judged = _judged(self._tree)
            when = f"{judged['lead']} steps after t2 = {self._tree.attrs['t2']}"
            return f"<koopscope verification: network {judged['verdict']}, {when}>"
        found = describe_fit(self._tree)
        window = f"steps {found['t1']} to {found['t2']}"
        return f"<koopscope fit: {found['method']}, {found['partition']}, {found['groups']} groups, {window}>"

    def _repr_html_(self) -> str:
        """Tabulate the result by layer, for notebooks."""
        if _kind(self._tree) == "verification":
            judged = _judged(self._tree)
            headings: Sequence[str] = ("layer", *_FIGURES)
            rows = [*judged["layers"], {**judged, "layer": "network"}]
        else:
            headings, found = _HEADINGS, describe_fit(self._tree)
            rows = [*found["layers"], {**found, "layer": "network"}]
        head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in headings)
        body = "".join(
            "<tr>" + "".join(f"<td>{_cell(row[name.replace(' ', '_')])}</td>" for name in headings) + "</tr>"
            for row in rows
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f"<p>{escape(repr(self)[1:-1])}</p>{table}"


def _kind(tree: xr.DataTree) -> str:
    kind = str(tree.attrs.get("koopscope_result"))
    if kind not in ("fit", "verification"):
        raise ResultError("this tree is no fit or verification of koopscope; koopscope.fit(...) makes one")
    return kind


def _judged(tree: xr.DataTree) -> dict[str, Any]:
    return describe_verification(tree, int(tree["lead"].to_numpy().max()))


def _cell(value: Any) -> str:
    """Format one cell; names come from recordings, and are escaped."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))
