"""Recording into one HDF5 file, for clusters whose file systems dislike many."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from koopscope.errors import OutputExistsError, StepError, UsageError
from koopscope.trajectory import format as fmt
from koopscope.trajectory.files import recording_errors
from koopscope.trajectory.layout import LAYOUTS
from koopscope.trajectory.plan import Plan, plan_recording
from koopscope.trajectory.rows import RowPacker
from koopscope.trajectory.selection import Globs, Selection


class Hdf5TrajectoryWriter:
    """Record weights during training into one HDF5 file, which may be read while it is written (SWMR).

    There is no journal: rows are kept in memory, and written in blocks. A killed process loses up to
    ``block_steps - 1`` of the rows appended last; `TrajectoryWriter` loses none.

    Parameters
    ----------
    path
        File to create, usually ``something.h5``. It appears with the first block.
    layout
        Order of the axes: one of `koopscope.trajectory.LAYOUTS`; ``None`` infers it from names and shapes.
    framework
        Free words on what trained the network, kept as an attr.
    block_steps
        Rows in a block, and in a chunk. Memory used is that of `block_steps` rows.
    include, exclude
        A glob or several on names: which tensors to record, and which to leave out.

    Raises
    ------
    OutputExistsError
        Where something is at `path`.
    UsageError
        Where an argument cannot be used.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/run.h5"
    >>> with Hdf5TrajectoryWriter(path, layout="torch") as writer:
    ...     for step in range(3):
    ...         writer.append(step, {"fc.weight": np.full((2, 3), step, "float32")}, loss=0.5)
    >>> with h5py.File(path) as file:
    ...     file["fc.weight"].shape
    (3, 2, 3)
    """

    def __init__(
        self,
        path: str | Path,
        *,
        layout: str | None,
        framework: str = "",
        block_steps: int = 64,
        include: Globs = None,
        exclude: Globs = None,
    ) -> None:
        """Check the arguments; nothing is written before the first block is full."""
        if layout is not None and layout not in LAYOUTS:
            raise UsageError(f"layout: expected one of {', '.join(LAYOUTS)} or None, got {layout!r}")
        if operator.index(block_steps) < 1:
            raise UsageError(f"block_steps: expected at least 1, got {block_steps}")
        self._path = Path(path)
        self._require_free()
        self._layout = layout
        self._framework = framework
        self._block = operator.index(block_steps)
        self._selection = Selection(include, exclude)
        self._closed = False
        self._last_step: int | None = None
        self._count = 0
        self._committed = 0
        self._plan: Plan | None = None
        self._file: h5py.File | None = None
        self._packer: RowPacker
        self._rows: np.ndarray[Any, np.dtype[np.uint8]]

    def append(self, step: int, tensors: Mapping[str, Any], **metrics: float) -> None:
        """Record one row, as `TrajectoryWriter.append` does.

        Raises
        ------
        StepError
            Where `step` does not increase.
        TrajectoryError
            Where the row cannot be recorded, or differs in kind from the rows before.
        RecordingError
            Where the disk does not take the block; `commit` tries it again.
        UsageError
            Where the writer is closed.
        """
        if self._closed:
            raise UsageError(f"{self._path}: this writer is closed; open a new one at another path")
        number = operator.index(step)
        if number < 0 or (self._last_step is not None and number <= self._last_step):
            before = "0 or more" if self._last_step is None else f"more than {self._last_step}"
            raise StepError(f"{self._path}: expected a step of {before}, got {number}")
        if self._count - self._committed >= self._block:
            self.commit()
        if self._plan is None:
            self._begin(tensors, metrics)
        pieces = self._packer.pack(self._count, number, tensors, metrics)
        row = self._rows[self._count - self._committed]
        np.concatenate([piece.data for piece in pieces], out=row)
        self._count += 1
        self._last_step = number
        if self._count % self._block == 0:
            self.commit()

    def commit(self) -> None:
        """Write the rows appended since the last commit; the counter ``n_committed`` comes last.

        Raises
        ------
        RecordingError
            Where the disk does not take them; they stay in memory.
        """
        if self._plan is None or self._committed == self._count:
            return
        with recording_errors(self._path):
            file = self._file = self._file or self._create(self._plan)
            views = self._packer.record_format.views(self._rows.reshape(-1), 0, self._count - self._committed)
            for name in sorted(views, key=lambda name: name == fmt.STEP):
                file[name].resize(self._count, axis=0)
                file[name][self._committed : self._count] = views[name]
                file[name].flush()
            file[fmt.COMMITTED_ATTR][()] = self._count
            file.flush()
        self._committed = self._count

    def close(self) -> None:
        """Write the remaining rows and close the file; without any row nothing is written."""
        if not self._closed:
            self.commit()
            if self._file is not None:
                self._file.close()
            self._closed = True

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the remaining rows and close the file, after an exception too."""
        self.close()

    def _require_free(self) -> None:
        if self._path.exists():
            raise OutputExistsError(f"{self._path} exists; choose another path, or remove it yourself")

    def _begin(self, tensors: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        plan = plan_recording(
            self._path,
            tensors,
            metrics,
            selection=self._selection,
            layout=self._layout,
            told={},
            framework=self._framework,
            block=self._block,
        )
        self._packer = RowPacker(self._path, plan.kinds, plan.metrics, self._selection)
        self._rows = np.empty((self._block, self._packer.record_format.nbytes), np.uint8)
        self._plan = plan

    def _create(self, plan: Plan) -> h5py.File:
        """Make the file with all its datasets, empty; from then on nothing may be added, only appended."""
        self._require_free()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = h5py.File(self._path, "x", libver="latest")
        file.attrs.update({name: value for name, value in plan.attrs.items() if name != fmt.COMMITTED_ATTR})
        # A dataset, as attrs may not change while others read.
        file.create_dataset(fmt.COMMITTED_ATTR, data=0, dtype=np.int64)
        for name, spec in plan.specs.items():
            data = file.create_dataset(
                name,
                shape=(0, *spec.shape),
                maxshape=(None, *spec.shape),
                dtype=spec.dtype,
                chunks=tuple(max(1, length) for length in spec.chunks),
                fillvalue=spec.fill,
                shuffle=True,
                fletcher32=True,
            )
            data.attrs.update(spec.attrs)
        file.swmr_mode = True
        return file
