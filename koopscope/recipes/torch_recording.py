"""PyTorch: record after every optimizer step, from a plain loop, from Lightning or from Transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from koopscope.errors import UsageError
from koopscope.recipes.torch_modules import torch_layout
from koopscope.trajectory import TensorLayout, TrajectoryWriter

Metrics = Callable[[], Mapping[str, float]]


def torch_weights(module: Any) -> dict[str, Any]:
    """Give the parameters of a module as NumPy arrays, by name; buffers are no parameters.

    Parameters
    ----------
    module
        A ``torch.nn.Module``, on any device.

    Returns
    -------
    dict
        Names to arrays. Those on the CPU are views: record or copy them before the next step.
    """
    return {name: _array(value) for name, value in module.named_parameters(remove_duplicate=False)}


def _array(value: Any) -> Any:
    tensor = value.detach().cpu()
    if str(tensor.dtype) != "torch.bfloat16":
        return tensor.numpy()
    # NumPy has no bfloat16 of its own; float32 holds it exactly, and ml_dtypes keeps the name.
    array = tensor.float().numpy()
    try:
        return array.astype(import_module("ml_dtypes").bfloat16)
    except ImportError:
        return array


class torch_recorder:  # noqa: N801  (called like a function, used like `open`)
    """Record a module after every step of its optimizer: the training loop stays as it is.

    Row 0 holds the weights before the first step, row k those after k steps.

    Parameters
    ----------
    model
        The ``torch.nn.Module`` to record.
    path
        Where to record, as for `koopscope.TrajectoryWriter`.
    optimizer
        Optimizer on which a step post hook is registered; ``None``: call `record` yourself.
    every
        Record each so-many-th step.
    metrics
        Called for each row; gives scalars of the weights just recorded, such as ``{"loss": 0.5}``.
    first_step
        Number of the first row.
    tensors
        What is known of single tensors beyond their module types.
    options
        Further arguments of `koopscope.TrajectoryWriter`.

    Raises
    ------
    UsageError
        Where an argument cannot be used.
    """

    def __init__(
        self,
        model: Any,
        path: str | Path,
        *,
        optimizer: Any = None,
        every: int = 1,
        metrics: Metrics | None = None,
        first_step: int = 0,
        tensors: Mapping[str, TensorLayout] | None = None,
        **options: Any,
    ) -> None:
        """Register the hook and record the first row."""
        if every < 1:
            raise UsageError(f"every: expected at least 1, got {every}")
        told = {**torch_layout(model), **(tensors or {})}
        options.setdefault("framework", "torch")
        self._model = model
        self._metrics = metrics
        self._every = every
        self._first = first_step
        self._writer = TrajectoryWriter(path, layout="torch", tensors=told, **options)
        self.step = first_step
        self._hook = None if optimizer is None else optimizer.register_step_post_hook(self._stepped)
        self.record(first_step)

    def _stepped(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self.step += 1
        if (self.step - self._first) % self._every == 0:
            self.record(self.step)

    def record(self, step: int) -> None:
        """Record the weights of now as those of a step."""
        scalars = {} if self._metrics is None else self._metrics()
        self._writer.append(step, torch_weights(self._model), **scalars)

    def close(self) -> None:
        """Take the hook off the optimizer and close the recording."""
        self._unhook()
        self._writer.close()

    def _unhook(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def __enter__(self) -> Self:
        """Return the recorder itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the recording; after an exception its rows are kept and its status stays ``open``."""
        self._unhook()
        self._writer.__exit__(kind, error, trace)


class _Callback:
    """What callbacks of trainers share: a recorder that lives from the start of training to its end.

    Trainers ask for every hook they have; those that do not matter here do nothing.
    """

    def __init__(self, path: str | Path, *, every: int = 1, **options: Any) -> None:
        """Remember the arguments, which are those of `torch_recorder`; recording starts with the training."""
        self._path = path
        self._every = every
        self._options = options
        self._recorder: torch_recorder | None = None
        self._first = 0

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("on_") or name in ("setup", "teardown", "load_state_dict"):
            return _nothing
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def _start(self, model: Any, step: int) -> None:
        self._first = step
        self._recorder = torch_recorder(model, self._path, first_step=step, **self._options)

    def _step(self, step: int) -> None:
        recorder = self._recorder
        # With gradient accumulation a batch may end without a step.
        if recorder is None or step <= recorder.step or (step - self._first) % self._every:
            return
        recorder.record(step)
        recorder.step = step

    def _end(self) -> None:
        if self._recorder is not None:
            self._recorder.close()
            self._recorder = None


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Be a hook that does not matter."""


class LightningCallback(_Callback):
    """Record from a Lightning ``Trainer``: ``Trainer(callbacks=[LightningCallback("run.zarr")])``.

    Parameters
    ----------
    path
        Where to record.
    every
        Record each so-many-th optimizer step.
    options
        Further arguments of `torch_recorder`.
    """

    state_key = "koopscope"

    def state_dict(self) -> dict[str, Any]:
        """Give what a checkpoint is to keep of this callback: nothing."""
        return {}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Record the first row."""
        self._start(pl_module, int(trainer.global_step))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
        """Record a row where the batch ended in a step."""
        self._step(int(trainer.global_step))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Close the recording."""
        self._end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Close the recording, all rows kept."""
        self._end()


class TransformersCallback(_Callback):
    """Record from a Transformers ``Trainer``: ``Trainer(..., callbacks=[TransformersCallback("run.zarr")])``.

    Parameters
    ----------
    path
        Where to record.
    every
        Record each so-many-th optimizer step.
    options
        Further arguments of `torch_recorder`.
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: Any, **rest: Any) -> None:
        """Record the first row."""
        self._start(model, int(state.global_step))

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Record a row."""
        self._step(int(state.global_step))

    def on_train_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Close the recording."""
        self._end()
