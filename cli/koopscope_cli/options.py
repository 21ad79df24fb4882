"""Options that several commands share, each described once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from koopscope_cli.whole_number import Whole

_FITTING = Group("Fitting", sort_key=1)
_RECORDING = Group("Recording", sort_key=2)

# Text, as a path would make one slash of the two in a URL.
TrajectoryPath = Annotated[
    str,
    Parameter(help="A recording: a Zarr store of TrajectoryWriter, here or at a URL, HDF5, checkpoints."),
]
FitPath = Annotated[Path, Parameter(help="The folder that `koopscope fit` wrote, or a fit.zarr.")]
Json = Annotated[bool, Parameter(help="Print one JSON object on stdout, and nothing else there.")]
Overwrite = Annotated[bool, Parameter(help="Replace what koopscope made there earlier; never anything else.")]
OverwriteFile = Annotated[bool, Parameter(help="Replace a file that is there, whoever made it.")]
Output = Annotated[Path | None, Parameter(name=["--output", "-o"])]
Loss = Annotated[
    str | None,
    Parameter(
        help="Loss of a mapping of tensor names to arrays, as module:function or path/to/file.py:function. "
        "Runs that code. Adds the loss at t2, at the true and at the forecast weights."
    ),
]
Drop = Annotated[
    str | None,
    Parameter(
        help="oscillating: leave out the modes that all but flip their sign from lag to lag; the forecast "
        "then runs along the middle of the oscillation."
    ),
]
Metric = Annotated[str, Parameter(help="Recorded series that --loss computes, such as validation_loss.")]
Smooth = Annotated[
    Whole,
    Parameter(help="Rows, an odd number, of the running mean of that series in which T_eq is looked for."),
]
Leads = Annotated[list[Whole], Parameter(consume_multiple=True)]
Layout = Annotated[
    str | None,
    Parameter(help="Order of the axes, where the recording does not tell it right: torch, keras, flax, ..."),
]
Run = Annotated[Whole | None, Parameter(help="Which run to take, from 0, where a recording holds many.")]
Globs = Annotated[list[str] | None, Parameter(consume_multiple=True)]


@Parameter(name="*", group=_FITTING)
@dataclass(frozen=True)
class FitSettings:
    """What is fitted, on which window, and how; the names of `koopscope.fit`."""

    partition: Annotated[
        str | None,
        Parameter(
            help="Weights that evolve together: network, layer, node, quasi-node:Q, weight, correlated:K (K "
            "groups read off the recording), or a mixture such as node,fc1=quasi-node:10 [default: node; "
            "chosen too where --method is auto]."
        ),
    ] = None
    method: Annotated[
        str,
        Parameter(
            help="affine (centred, truncated), ridge, tls, fb or optimised (other estimators of the same), "
            "paper (as Dogra & Redman published it), or auto (whatever a backtest on the window chooses)."
        ),
    ] = "affine"
    t1: Annotated[
        Whole | None, Parameter(help="First training step of the window [default: the first recorded].")
    ] = None
    t2: Annotated[
        Whole | None,
        Parameter(help="Last training step of the window [default: leaves a fifth for verification]."),
    ] = None
    lag: Annotated[
        Whole | None,
        Parameter(
            help="Training steps from snapshot to snapshot [default: one recorded spacing for paper, a "
            "hundredth of the window for others]."
        ),
    ] = None
    delays: Annotated[Whole, Parameter(help="Snapshots stacked into one state.")] = 1
    average: Annotated[
        Whole, Parameter(help="Recorded rows averaged into one snapshot, for runs with gradient noise.")
    ] = 1
    rtol: Annotated[
        float | None, Parameter(help="Drop directions below this share of the largest singular value.")
    ] = None
    rank: Annotated[Whole | None, Parameter(help="Keep at most this many directions.")] = None
    stabilise: Annotated[
        bool, Parameter(help="Shrink the operators as far as the window's last quarter asks for it.")
    ] = False
    pairs: Annotated[
        str,
        Parameter(
            help="strided: pairs of snapshots a lag apart on a grid; every: all pairs of recorded rows a lag "
            "apart, for groups of few weights."
        ),
    ] = "strided"
    memory: Annotated[
        str | None, Parameter(help="Memory to work in, such as 500MB or 4GB [default: 1GB].")
    ] = None
    scheduler: Annotated[
        str | None,
        Parameter(
            help="Address of a dask scheduler whose workers read the recording; local starts some here."
        ),
    ] = None


@Parameter(name="*", group=_RECORDING)
@dataclass(frozen=True)
class RecordingOptions:
    """How a recording is opened; the names of `koopscope.open_trajectory`."""

    layout: Layout = None
    include: Annotated[Globs, Parameter(help="Open only tensors that match a glob such as 'fc*'.")] = None
    exclude: Annotated[Globs, Parameter(help="Leave out tensors that match a glob.")] = None
    run: Run = None
