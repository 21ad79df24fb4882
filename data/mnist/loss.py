"""Losses of the digit classifier in plain NumPy and float64: the yardsticks for forecast weights.

The network is 784:20:20:20:10 with ReLU between its layers; the loss is the mean cross-entropy. `loss` takes
the first 10 000 digits of the training set, `validation_loss` the 10 000 of the test set: the two that
``train.py`` records row by row. `full_training_loss` takes all 60 000.

The digits come from an ``.npz`` file of ``x_train``, ``y_train``, ``x_test``, ``y_test`` (uint8). The
environment variable ``MNIST_DIGITS`` names it; without it, ``mnist.npz`` in the current folder is read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

LAYERS = ("fc1", "fc2", "fc3", "fc4")
SAMPLE = (
    10_000  # training digits whose loss is recorded with every row; all of them would cost six times as much
)

Array = NDArray[np.float64]


@cache
def digits(part: str, count: int | None = None) -> tuple[Array, NDArray[np.int64]]:
    """Read one part of the digits.

    Parameters
    ----------
    part
        ``"train"`` or ``"test"``.
    count
        Take only the first so many.

    Returns
    -------
    tuple
        Images of shape (digits, 784) between 0 and 1, and labels of shape (digits,).
    """
    with np.load(os.environ.get("MNIST_DIGITS", "mnist.npz"), allow_pickle=False) as file:
        images, labels = file[f"x_{part}"][:count], file[f"y_{part}"][:count]
    return images.reshape(len(images), -1) / 255.0, labels.astype(np.int64)


def cross_entropy(params: Mapping[str, ArrayLike], images: Array, labels: NDArray[np.int64]) -> float:
    """Give the mean cross-entropy of the network on some digits.

    Parameters
    ----------
    params
        ``fc1.weight`` (20, 784), ``fc1.bias`` (20,), ..., ``fc4.weight`` (10, 20), ``fc4.bias`` (10,).
    images, labels
        Shapes (digits, 784) and (digits,).

    Examples
    --------
    >>> sizes = (784, 20, 20, 20, 10)
    >>> params = {f"{layer}.weight": np.zeros((sizes[k + 1], sizes[k])) for k, layer in enumerate(LAYERS)}
    >>> params |= {f"{layer}.bias": np.zeros(sizes[k + 1]) for k, layer in enumerate(LAYERS)}
    >>> round(cross_entropy(params, np.ones((3, 784)), np.array([0, 1, 2])), 4)  # log 10: it knows nothing
    2.3026
    """
    value = images
    for layer in LAYERS:
        weight = np.asarray(params[f"{layer}.weight"], np.float64)
        value = value @ weight.T + np.asarray(params[f"{layer}.bias"], np.float64)
        if layer != LAYERS[-1]:
            value = np.maximum(value, 0.0)
    value = value - value.max(axis=1, keepdims=True)
    true = np.take_along_axis(value, labels[:, None], axis=1)[:, 0]
    return float(np.mean(np.log(np.exp(value).sum(axis=1)) - true))


def loss(params: Mapping[str, ArrayLike]) -> float:
    """Give the loss on the first 10 000 training digits: what recordings hold as ``loss``."""
    return cross_entropy(params, *digits("train", SAMPLE))


def full_training_loss(params: Mapping[str, ArrayLike]) -> float:
    """Give the loss on all 60 000 training digits."""
    return cross_entropy(params, *digits("train"))


def validation_loss(params: Mapping[str, ArrayLike]) -> float:
    """Give the loss on the 10 000 test digits: what recordings hold as ``validation_loss``."""
    return cross_entropy(params, *digits("test"))
