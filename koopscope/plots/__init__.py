"""Pictures of results: each function takes a result and an ``ax`` and returns the Axes; none fits anything.

A file a plot; ``style`` holds the shared look, ``reading`` takes numbers out of verifications. matplotlib
is imported in this folder only, and only once a plot is asked for. Without ``ax`` a figure of its own is
made that no GUI knows of: nothing is shown or saved. Legends stand to the right of the axes, so give
figures of your own ``layout="compressed"``. May import everything above it but the report.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from koopscope.plots.basin import plot_basin as plot_basin
    from koopscope.plots.basin import plot_eigs_over_time as plot_eigs_over_time
    from koopscope.plots.distance import plot_distance as plot_distance
    from koopscope.plots.eigs import plot_eigs as plot_eigs
    from koopscope.plots.error import plot_error_vs_evolution as plot_error_vs_evolution
    from koopscope.plots.loss import plot_loss as plot_loss
    from koopscope.plots.modes import plot_modes as plot_modes
    from koopscope.plots.skill import plot_skill as plot_skill
    from koopscope.plots.weights import plot_weights as plot_weights

_HOMES = {
    "plot_basin": "koopscope.plots.basin",
    "plot_distance": "koopscope.plots.distance",
    "plot_eigs": "koopscope.plots.eigs",
    "plot_eigs_over_time": "koopscope.plots.basin",
    "plot_error_vs_evolution": "koopscope.plots.error",
    "plot_loss": "koopscope.plots.loss",
    "plot_modes": "koopscope.plots.modes",
    "plot_skill": "koopscope.plots.skill",
    "plot_weights": "koopscope.plots.weights",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'koopscope.plots' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
