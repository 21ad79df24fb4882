"""Keras 3: a callback that records after every batch, on the torch and on the JAX back end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from koopscope.errors import UsageError
from koopscope.recipes.keras_layers import keras_layout, keras_names
from koopscope.trajectory import TrajectoryWriter


def keras_weights(model: Any) -> dict[str, Any]:
    """Give the trainable weights of a model as NumPy arrays, by name.

    On the JAX back end the state of a running ``fit`` is brought into the model first.

    Parameters
    ----------
    model
        A built ``keras.Model``.
    """
    synchronise = getattr(model, "jax_state_sync", None)
    if callable(synchronise):
        synchronise()
    names = keras_names(model)
    return {names[id(weight)]: weight.numpy() for weight in model.trainable_variables}


class KerasCallback:
    """Record during ``fit``: ``model.fit(x, y, callbacks=[KerasCallback("run.zarr")])``.

    Row 0 holds the weights before the first batch, row k those after k batches.

    Parameters
    ----------
    path
        Where to record.
    every
        Record each so-many-th batch.
    metrics
        Called with the model for each row; gives scalars of the weights just recorded.
    options
        Further arguments of `koopscope.TrajectoryWriter`.

    Raises
    ------
    UsageError
        Where an argument cannot be used.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        every: int = 1,
        metrics: Callable[[Any], Mapping[str, float]] | None = None,
        **options: Any,
    ) -> None:
        """Remember the arguments; recording starts with the training."""
        if every < 1:
            raise UsageError(f"every: expected at least 1, got {every}")
        options.setdefault("framework", "keras")
        self._path = path
        self._every = every
        self._metrics = metrics
        self._options = options
        self._model: Any = None
        self._writer: TrajectoryWriter | None = None
        self._step = 0

    def __getattr__(self, name: str) -> Callable[..., None]:
        # Keras calls every hook there is; those that do not matter here do nothing.
        if name.startswith("on_"):
            return _nothing
        raise AttributeError(f"KerasCallback has no attribute {name!r}")

    def set_params(self, params: Any) -> None:
        """Take the parameters of the training, which do not matter here."""

    def set_model(self, model: Any) -> None:
        """Take the model to record."""
        self._model = model

    def on_train_begin(self, logs: Any = None) -> None:
        """Record the first row, unless the model is not built before its first batch."""
        self._step = 0
        self._writer = None
        if self._model.built and self._model.trainable_variables:
            self._record()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Record a row."""
        self._step += 1
        if self._step % self._every == 0:
            self._record()

    def on_train_end(self, logs: Any = None) -> None:
        """Close the recording."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _record(self) -> None:
        weights = keras_weights(self._model)
        if self._writer is None:
            told = keras_layout(self._model)
            self._writer = TrajectoryWriter(self._path, layout="keras", tensors=told, **self._options)
        scalars = {} if self._metrics is None else self._metrics(self._model)
        self._writer.append(self._step, weights, **scalars)


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Be a hook that does not matter."""
