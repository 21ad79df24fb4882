"""koopscope: Koopman operators for the dynamics of training.

Weight trajectories recorded by any framework are opened as xarray datasets; operators are fitted per
partition of the weights, move the weights forward, and are judged by the recording that follows.

The public names live here and are loaded on first use, so that importing koopscope costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from koopscope.versions import __version__ as __version__

if TYPE_CHECKING:
    from koopscope import errors as errors
    from koopscope import progress as progress
    from koopscope import recipes as recipes
    from koopscope import summary as summary
    from koopscope import targets as targets
    from koopscope import verdicts as verdicts
    from koopscope.backtesting import backtest as backtest
    from koopscope.basin import find_basin as find_basin
    from koopscope.comparison import compare as compare
    from koopscope.comparison import permutation_test as permutation_test
    from koopscope.costs import inspect as inspect
    from koopscope.ensembles import ensemble as ensemble
    from koopscope.ensembles import quantiles as quantiles
    from koopscope.errors import KoopscopeError as KoopscopeError
    from koopscope.examples import example_recording as example_recording
    from koopscope.exporting import export as export
    from koopscope.exporting import state_dict as state_dict
    from koopscope.fitting import fit as fit
    from koopscope.following import follow_basin as follow_basin
    from koopscope.forecasting import predict as predict
    from koopscope.partition import Partition as Partition
    from koopscope.plots import plot_basin as plot_basin
    from koopscope.plots import plot_distance as plot_distance
    from koopscope.plots import plot_eigs as plot_eigs
    from koopscope.plots import plot_eigs_over_time as plot_eigs_over_time
    from koopscope.plots import plot_error_vs_evolution as plot_error_vs_evolution
    from koopscope.plots import plot_loss as plot_loss
    from koopscope.plots import plot_modes as plot_modes
    from koopscope.plots import plot_skill as plot_skill
    from koopscope.plots import plot_weights as plot_weights
    from koopscope.pruning import end_point as end_point
    from koopscope.pruning import prune as prune
    from koopscope.reporting import report as report
    from koopscope.results import load as load
    from koopscope.results import save as save
    from koopscope.spectra import spectrum as spectrum
    from koopscope.statistics import Statistics as Statistics
    from koopscope.statistics import collect as collect
    from koopscope.trajectory import TensorLayout as TensorLayout
    from koopscope.trajectory import TrajectoryWriter as TrajectoryWriter
    from koopscope.trajectory import convert as convert
    from koopscope.trajectory import open_trajectory as open_trajectory
    from koopscope.verification import verify as verify

_HOMES = {
    "KoopscopeError": "koopscope.errors",
    "Partition": "koopscope.partition",
    "Statistics": "koopscope.statistics",
    "TensorLayout": "koopscope.trajectory",
    "TrajectoryWriter": "koopscope.trajectory",
    "backtest": "koopscope.backtesting",
    "collect": "koopscope.statistics",
    "compare": "koopscope.comparison",
    "convert": "koopscope.trajectory",
    "find_basin": "koopscope.basin",
    "end_point": "koopscope.pruning",
    "ensemble": "koopscope.ensembles",
    "example_recording": "koopscope.examples",
    "export": "koopscope.exporting",
    "fit": "koopscope.fitting",
    "follow_basin": "koopscope.following",
    "inspect": "koopscope.costs",
    "load": "koopscope.results",
    "open_trajectory": "koopscope.trajectory",
    "plot_basin": "koopscope.plots",
    "permutation_test": "koopscope.comparison",
    "plot_distance": "koopscope.plots",
    "plot_eigs": "koopscope.plots",
    "plot_eigs_over_time": "koopscope.plots",
    "plot_error_vs_evolution": "koopscope.plots",
    "plot_loss": "koopscope.plots",
    "plot_modes": "koopscope.plots",
    "plot_skill": "koopscope.plots",
    "plot_weights": "koopscope.plots",
    "predict": "koopscope.forecasting",
    "prune": "koopscope.pruning",
    "quantiles": "koopscope.ensembles",
    "report": "koopscope.reporting",
    "save": "koopscope.results",
    "spectrum": "koopscope.spectra",
    "state_dict": "koopscope.exporting",
    "verify": "koopscope.verification",
}

_MODULES = ("errors", "progress", "recipes", "summary", "targets", "verdicts")

__all__ = sorted([*_HOMES, *_MODULES])


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"koopscope.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'koopscope' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    if "xarray" in sys.modules:  # what the function returns shall have .koop
        import_module("koopscope.accessor")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
