"""Recorded weights to and from xarray: the writer, the readers, and what is known of each tensor's axes.

What lives here: the on-disk format (`format`, `chunks`), the writer (`writer`, `journal`, `recycling`,
`folding`, `recovery`, `zarr_store`; `hdf5_writer` apart), the lazy readers (`zarr_reader`, `columns`,
`journal_rows`, `tail`, `hdf5_reader`, `checkpoints`, `remote`, `opening`), the meaning of each tensor's axes
(`layout`), the in-memory form every other part of koopscope works on (`dataset`), what a recording holds and
what is wrong with it (`inspection`), and copies of any recording in our own format (`conversion`).

May import: `koopscope.errors`, `koopscope.progress`, `koopscope.variables`, `koopscope.parallel`, and
its own files. zarr and h5py are used here and nowhere above.

The names below load on first use, so that a training script which only wants `TrajectoryWriter` pays for
numpy and zarr, not for xarray or h5py.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from koopscope.trajectory.conversion import convert as convert
    from koopscope.trajectory.dataset import from_arrays as from_arrays
    from koopscope.trajectory.inspection import inspect as inspect
    from koopscope.trajectory.layout import LAYOUTS as LAYOUTS
    from koopscope.trajectory.opening import open_trajectory as open_trajectory
    from koopscope.trajectory.tensor_layout import TensorLayout as TensorLayout
    from koopscope.trajectory.validation import metric_names as metric_names
    from koopscope.trajectory.validation import tensor_names as tensor_names
    from koopscope.trajectory.validation import validate as validate
    from koopscope.trajectory.writer import TrajectoryWriter as TrajectoryWriter

_HOMES = {
    "LAYOUTS": "koopscope.trajectory.layout",
    "TensorLayout": "koopscope.trajectory.tensor_layout",
    "TrajectoryWriter": "koopscope.trajectory.writer",
    "convert": "koopscope.trajectory.conversion",
    "from_arrays": "koopscope.trajectory.dataset",
    "inspect": "koopscope.trajectory.inspection",
    "metric_names": "koopscope.trajectory.validation",
    "open_trajectory": "koopscope.trajectory.opening",
    "tensor_names": "koopscope.trajectory.validation",
    "validate": "koopscope.trajectory.validation",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'koopscope.trajectory' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
