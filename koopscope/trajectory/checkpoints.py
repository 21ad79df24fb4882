"""Opens a folder of checkpoints, one file a step, as a recording: ``step_100.safetensors``, .npz or .pt."""

from __future__ import annotations

import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from koopscope.errors import StepError, TrajectoryError
from koopscope.trajectory import format as fmt
from koopscope.trajectory.checkpoint_file import Checkpoint, StoredTensor
from koopscope.trajectory.dataset import Tensor, assemble
from koopscope.trajectory.layout import resolve
from koopscope.trajectory.lazy import Read, lazily
from koopscope.trajectory.names import clean, is_buffer
from koopscope.trajectory.npz_file import read_npz
from koopscope.trajectory.safetensors_file import read_safetensors
from koopscope.trajectory.selection import Selection
from koopscope.trajectory.torch_file import to_safetensors

_NAME = re.compile(r"(?:.*?[_.-])?(\d+)\.(safetensors|npz|pt)")
_MOST_DIGITS = 18  # of which every number fits into 64 bits


def checkpoint_files(folder: Path) -> dict[int, Path]:
    """Find the checkpoints of a folder: step numbers, in order, to files.

    Files whose names do not end in a number and one of the suffixes are no checkpoints.

    Raises
    ------
    TrajectoryError
        Where kinds of files are mixed, or a file lies outside the folder.
    StepError
        Where two files are of one step, or the number of one is too large.
    """
    found: dict[int, Path] = {}
    for child in sorted(folder.iterdir()):
        match = _NAME.fullmatch(child.name)
        if match is None:
            continue
        if not child.is_file() or not child.resolve().is_relative_to(folder.resolve()):
            raise TrajectoryError(
                f"{child}: expected a file in this folder, found a link out of it or no file; copy it here"
            )
        if len(match[1].lstrip("0")) > _MOST_DIGITS:
            raise StepError(
                f"{child}: expected a step of at most {_MOST_DIGITS} digits; move the file elsewhere"
            )
        step = int(match[1])
        if step in found:
            raise StepError(f"{folder}: {found[step].name!r} and {child.name!r} are both of step {step}")
        found[step] = child
    kinds = sorted({path.suffix for path in found.values()})
    if len(kinds) > 1:
        raise TrajectoryError(f"{folder}: expected checkpoints of one kind, found {', '.join(kinds)}")
    fmt.check_rows(str(folder), len(found))
    return dict(sorted(found.items()))


def read_checkpoints(folder: Path, *, layout: str | None, selection: Selection) -> xr.Dataset:
    """Open a folder of checkpoints lazily; steps need not be even.

    Parameters
    ----------
    folder
        The folder.
    layout
        Layout of the tensors, or ``None``.
    selection
        Tells which tensors to open.

    Raises
    ------
    TrajectoryError
        Where a file is hostile, damaged, or not like the first one. Files between the first and the last one
        are looked at when they are read.
    """
    files = checkpoint_files(folder)
    paths, keeper = _readable(list(files.values()), folder)
    series = _Series(paths, keeper)
    first = series.open(0)
    named = {
        name: tensor
        for name, tensor in first.tensors.items()
        if not is_buffer(name) and not selection.excludes(clean(name))
    }
    # A single value under a plain name, such as loss, is a metric; in a module it is a weight.
    metrics = [name for name, tensor in named.items() if tensor.shape == () and "." not in clean(name)]
    shapes = {name: tensor.shape for name, tensor in named.items() if name not in metrics}
    resolved = resolve(shapes, declared=layout, natural=True)
    fmt.check_names([place.name for place in resolved.placements])
    fmt.check_series(str(folder), len(paths), 1 + len(metrics))
    for name, tensor in named.items():
        series.same(name, tensor, len(paths) - 1)
    tensors = [
        Tensor(
            name=place.name,
            array=series.lazy(place.source_name, named[place.source_name]),
            layer=place.layer,
            layer_index=place.layer_index,
            role=place.role,
            output_axes=place.output_axes,
            input_axes=place.input_axes,
            output_blocks=place.output_blocks,
            source_dtype=named[place.source_name].source_dtype,
            source_name=place.source_name,
        )
        for place in resolved.placements
        if selection.keeps(place.name)
    ]
    dataset = assemble(
        np.array(list(files), np.int64),
        tensors,
        {clean(name): series.read(name, named[name], (slice(0, len(paths), 1),)) for name in metrics},
        layout=resolved.layout,
        evidence=resolved.evidence,
        source=str(folder),
        format=f"folder of {next(iter(files.values())).suffix} files",
    )
    tied = {clean(name): clean(kept) for name, kept in first.tied.items()}
    return dataset.assign_attrs(tied=tied) if tied else dataset


def _readable(paths: Sequence[Path], folder: Path) -> tuple[list[Path], object]:
    """Give files that this process may read, and what keeps them from being removed."""
    if paths[0].suffix != ".pt":
        return list(paths), None
    keeper = _Temporary()
    return to_safetensors(paths, keeper.folder), keeper


class _Temporary:
    """A folder that is removed with the last array that reads from it, at the latest at exit."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="koopscope-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


class _Series:
    """The files of a folder, read as arrays with a leading axis of steps."""

    def __init__(self, paths: Sequence[Path], keeper: object) -> None:
        self._paths = list(paths)
        self._keeper = keeper
        # The last few files stay described: tensors of one row are read one after another.
        self.open: Callable[[int], Checkpoint] = lru_cache(maxsize=128)(self._open)
        self._first: Checkpoint | None = None
        self._first = self.open(0)

    def _open(self, row: int) -> Checkpoint:
        path = self._paths[row]
        try:
            return read_npz(path) if path.suffix == ".npz" else read_safetensors(path, self._first)
        except OSError as error:
            raise TrajectoryError(f"{path}: cannot be read ({error})") from error

    def same(self, name: str, expected: StoredTensor, row: int) -> StoredTensor:
        found = self.open(row).tensors.get(name)
        if found is None or (found.shape, found.source_dtype) != (expected.shape, expected.source_dtype):
            what = "nothing" if found is None else f"{found.source_dtype} {found.shape}"
            raise TrajectoryError(
                f"{self._paths[row]}: expected {name!r} of {expected.source_dtype} {expected.shape} as in "
                f"{self._paths[0].name}, found {what}"
            )
        return found

    def read(self, name: str, expected: StoredTensor, key: tuple[slice, ...]) -> NDArray[Any]:
        rows = range(key[0].start, key[0].stop, key[0].step)
        parts = [self.same(name, expected, row).read(self._paths[row], key[1:]) for row in rows]
        if parts:
            return np.stack(parts)
        return np.empty((0, *expected.shape), expected.dtype)[(slice(None), *key[1:])]

    def lazy(self, name: str, tensor: StoredTensor) -> Any:
        read: Read = lambda key: self.read(name, tensor, key)  # noqa: E731
        return lazily(read, (len(self._paths), *tensor.shape), tensor.dtype)
