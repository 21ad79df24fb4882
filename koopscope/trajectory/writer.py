"""Recording: what a training script calls to keep its weights as it goes. Needs numpy and zarr only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from koopscope.errors import StepError, UsageError
from koopscope.trajectory import format as fmt
from koopscope.trajectory.journaled import JournaledStore
from koopscope.trajectory.layout import LAYOUTS
from koopscope.trajectory.place import Place, is_url
from koopscope.trajectory.plan import plan_recording
from koopscope.trajectory.selection import Globs, Selection
from koopscope.trajectory.settings import Settings
from koopscope.trajectory.tensor_layout import TensorLayout
from koopscope.trajectory.uploading import UploadedStore, check_place
from koopscope.trajectory.zarr_store import check_target
from koopscope.whole_numbers import whole_number

Rows = JournaledStore | UploadedStore


class TrajectoryWriter:
    """Record weights during training, as a Zarr store that `koopscope.open_trajectory` opens.

    When `append` returns, the row survives a killed process: it is in a journal beside the store. Every
    `block_steps` rows a thread folds the journal into the store, beside the training. At a URL there is no
    journal: a block is the unit, and a killed process loses the rows since the last one.

    Parameters
    ----------
    path
        Directory to create, usually ``something.zarr``, or a URL such as ``s3://bucket/run.zarr``. It
        appears with the first row.
    layout
        Order of the axes: one of `koopscope.trajectory.LAYOUTS`; ``None`` infers it from names and shapes.
    tensors
        Framework names to what is known for sure of single tensors, as `koopscope.recipes.torch_layout` reads
        it off a module; outranks `layout`. A tensor with ``tied_to`` is left out.
    framework
        Free words on what trained the network, kept as an attr.
    block_steps
        Rows in a block, and in a chunk on disk.
    overwrite
        Replace a recording that is at `path`, when the first row arrives. Anything else is never replaced.
    resume
        Record on where the recording at `path` ends, be it closed or cut off; begin one where there is none.
    durability
        What a row survives: the death of the ``process``, or the loss of ``power``, which takes a
        synchronous write to the disk for every row.
    include, exclude
        Globs on names, such as ``"fc*"``: which tensors to record, and which to leave out.
    every
        Record each `every`-th call of `append`, the first included. After `resume`, recording goes on at
        the spacing of the last two rows.
    runs
        Number of trainings that are recorded together, as a vectorised training of many seeds holds them:
        every tensor has a leading axis of that length, and every metric is an array of it. `open_trajectory`
        shows it as the dim ``run``, and with ``run=k`` that run alone.

    Raises
    ------
    OutputExistsError
        Where something is at `path`.
    RecordingError
        Where another writer records to `path`.
    TrajectoryError
        Where `resume` finds a recording that is damaged.
    UsageError
        Where an argument cannot be used.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from koopscope import open_trajectory
    >>> path = tempfile.mkdtemp() + "/run.zarr"
    >>> with TrajectoryWriter(path, layout="torch") as writer:
    ...     for step in range(3):
    ...         writer.append(step, {"fc.weight": np.full((2, 3), step, "float32")}, loss=0.5)
    >>> with TrajectoryWriter(path, layout="torch", resume=True) as writer:
    ...     writer.append(writer.last_step + 1, {"fc.weight": np.zeros((2, 3), "float32")}, loss=0.4)
    >>> open_trajectory(path)["fc.weight"].shape
    (4, 2, 3)
    """

    def __init__(
        self,
        path: str | Path,
        *,
        layout: str | None,
        tensors: Mapping[str, TensorLayout] | None = None,
        framework: str = "",
        block_steps: int = 64,
        overwrite: bool = False,
        resume: bool = False,
        durability: Literal["process", "power"] = "process",
        include: Globs = None,
        exclude: Globs = None,
        every: int = 1,
        runs: int | None = None,
    ) -> None:
        if layout is not None and layout not in LAYOUTS:
            raise UsageError(f"layout: expected one of {', '.join(LAYOUTS)} or None, got {layout!r}")
        if durability not in ("process", "power"):
            raise UsageError(f"durability: expected 'process' or 'power', got {durability!r}")
        for name, value in (("block_steps", block_steps), ("every", every), ("runs", runs)):
            if value is not None and whole_number(name, value) < 1:
                raise UsageError(f"{name}: expected at least 1, got {value}")
        if resume and overwrite:
            raise UsageError("resume=True records on and overwrite=True begins anew: say one of them")
        self._place = Place(path) if isinstance(path, str) and is_url(path) else None
        if self._place is not None and durability == "power":
            raise UsageError(f"{path}: durability='power' is for directories: at a URL, a block is the unit")
        self._path: str | Path = Path(path) if self._place is None else self._place.url
        self._layout = layout
        self._told = dict(tensors or {})
        self._framework = framework
        self._settings = Settings(
            Selection(include, exclude),
            whole_number("block_steps", block_steps),
            durability == "power",
            overwrite,
        )
        self._runs = whole_number("runs", runs)
        self._every = whole_number("every", every)
        self._calls = 0
        self._skip_to: int | None = None
        self._process = os.getpid()
        self._closed = False
        self._last_step: int | None = None
        self._rows: Rows | None = None
        if resume and self._is_there():
            self._rows = self._resume()
        elif self._place is None:
            check_target(Path(path), overwrite=overwrite)
        else:
            check_place(self._place, overwrite=overwrite)

    @property
    def last_step(self) -> int | None:
        """Step of the last row, that of a resumed recording included; ``None`` before the first."""
        return self._last_step

    def append(self, step: int, tensors: Mapping[str, Any], **metrics: Any) -> None:
        """Record one row: the weights at one training step, and scalars that belong to the same weights.

        Values are copied. Running statistics such as ``running_mean`` are left out.

        Parameters
        ----------
        step
            Training iteration; larger than that of the row before.
        tensors
            Framework names to arrays (numpy, jax, or a tensor of torch); the same names, shapes and dtypes in
            every row.
        metrics
            Scalars such as ``loss=0.1``. The first row fixes which there are; one left out later is NaN.

        Raises
        ------
        StepError
            Where `step` does not increase, or is beyond 2^63.
        TrajectoryError
            Where the row cannot be recorded, or differs in kind from the rows before. Nothing of it is kept.
        RecordingError
            Where the disk does not take it, or has not taken rows before, which the journal keeps then. This
            row is not recorded; the writer goes on when what is wrong is mended.
        UsageError
            Where the writer is closed, `step` is not whole, or `tensors` no mapping.
        """
        self._require_usable()
        number = whole_number("step", step)
        if not -(2**63) <= number < 2**63:
            raise StepError(f"expected a step within 64 bits, got {number}")
        if not isinstance(tensors, Mapping):
            raise UsageError(f"expected a mapping of names to arrays, got {type(tensors).__name__}")
        if not self._is_due(number):
            return
        before, self._last_step = self._last_step, self._next_step(number)
        try:
            if self._rows is None:
                self._rows = self._begin(tensors, metrics)
            self._rows.append(number, tensors, metrics)
        except Exception:
            self._last_step = before
            raise
        self._calls += 1

    def commit(self) -> None:
        """Fold the rows appended so far into the store, for readers that know nothing of journals.

        Raises
        ------
        RecordingError
            Where the disk does not take them; they are kept in the journal.
        """
        self._require_usable()
        if self._rows is not None:
            self._rows.commit()

    def close(self) -> None:
        """Commit the remaining rows and mark the recording as closed; without any row nothing is written.

        Raises
        ------
        RecordingError
            Where the disk does not take them; they are kept, and closing can be tried again.
        """
        if self._closed or os.getpid() != self._process:
            return
        if self._rows is not None:
            self._rows.finish()
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the recording; after an exception keep its rows but leave its status ``open``."""
        if self._closed or os.getpid() != self._process:
            return
        try:
            if kind is None:
                self.close()
            elif self._rows is not None:
                # Where this fails the journal stays, and the exception under way is the one to be seen.
                self._rows.abandon()
        finally:
            self._end()

    def _end(self) -> None:
        """Let go of the files, whatever is in them."""
        if not self._closed and self._rows is not None:
            self._rows.release()
        self._closed = True

    def _require_usable(self) -> None:
        if self._closed:
            raise UsageError(f"{self._path}: this writer is closed; open a new one with resume=True")
        if os.getpid() != self._process:
            raise UsageError(
                f"{self._path}: this writer belongs to process {self._process}, and was copied by a fork: "
                "record in that one"
            )

    def _is_due(self, number: int) -> bool:
        """Tell whether a call is to be recorded, and count it if not."""
        if self._skip_to is not None and number < self._skip_to:
            return False
        self._skip_to = None
        if self._calls % self._every == 0:
            return True
        self._calls += 1
        return False

    def _next_step(self, number: int) -> int:
        if number < 0 or (self._last_step is not None and number <= self._last_step):
            before = "0 or more" if self._last_step is None else f"more than {self._last_step}"
            raise StepError(f"{self._path}: expected a step of {before}, got {number}")
        return number

    def _begin(
        self, tensors: Mapping[str, Any], metrics: Mapping[str, Any]
    ) -> JournaledStore | UploadedStore:
        plan = plan_recording(
            self._path,
            tensors,
            metrics,
            selection=self._settings.selection,
            layout=self._layout,
            told=self._told,
            framework=self._framework,
            block=self._settings.block,
            runs=self._runs,
        )
        if self._place is not None:
            return UploadedStore.create(self._place, plan, self._settings)
        return JournaledStore.create(Path(self._path), plan, self._settings)

    def _is_there(self) -> bool:
        return Path(self._path).exists() if self._place is None else self._place.root_attrs() is not None

    def _resume(self) -> Rows:
        """Open the recording that is there, and go on behind its last row."""
        expected = {"layout": self._layout, fmt.RUNS_ATTR: self._runs}
        rows: Rows
        if self._place is None:
            rows = JournaledStore.resume(Path(self._path), self._settings, expected)
        else:
            rows = UploadedStore.resume(self._place, self._settings, expected)
        steps = rows.last_steps(2)
        self._last_step = steps[-1] if steps else None
        if self._every > 1 and len(steps) == 2:
            self._skip_to = steps[1] + (steps[1] - steps[0])
        return rows
