"""Loss of the oscillator network in plain NumPy and float64: the yardstick for forecast weights.

The network solves Hamilton's equations of H = p^2/2 + x^2/2 + x^4/4 from x(0) = 1.3, p(0) = 1.0. It is
1:10:10:2 with sigmoids; x(t) = 1.3 + (1 - e^-t) N1(t) and p(t) = 1.0 + (1 - e^-t) N2(t) meet the initial
values exactly. The loss is mean (x' - p)^2 + mean (p' + x + x^3)^2 over 200 points on [0, 4 pi].

It takes weights under the tensor names of the recordings made by ``train.py`` and needs nothing but NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

START = (1.3, 1.0)
TIMES = np.linspace(0.0, 4.0 * np.pi, 200)

Array = NDArray[np.float64]


def network(params: Mapping[str, ArrayLike]) -> tuple[Array, Array]:
    """Evaluate the network and its time derivative.

    Parameters
    ----------
    params
        ``fc1.weight`` (10, 1), ``fc1.bias`` (10,), ``fc2.weight`` (10, 10), ``fc2.bias`` (10,),
        ``fc3.weight`` (2, 10), ``fc3.bias`` (2,).

    Returns
    -------
    tuple
        N(t) and dN/dt, each of shape (200, 2).
    """
    value, slope = TIMES[:, None], np.ones((TIMES.size, 1))
    for layer in ("fc1", "fc2", "fc3"):
        weight = np.asarray(params[f"{layer}.weight"], np.float64)
        value = value @ weight.T + np.asarray(params[f"{layer}.bias"], np.float64)
        slope = slope @ weight.T
        if layer != "fc3":
            # tanh does not overflow where exp(-z) would, however far a forecast has strayed.
            value = 0.5 * (1.0 + np.tanh(0.5 * value))
            slope = value * (1.0 - value) * slope
    return value, slope


def loss(params: Mapping[str, ArrayLike]) -> float:
    """Give the loss at some weights.

    Parameters
    ----------
    params
        Tensor names to arrays, in PyTorch's order of axes; see `network`.

    Examples
    --------
    >>> shapes = {"fc1": (10, 1), "fc2": (10, 10), "fc3": (2, 10)}
    >>> params = {f"{layer}.weight": np.zeros(shape) for layer, shape in shapes.items()}
    >>> params |= {f"{layer}.bias": np.zeros(shape[0]) for layer, shape in shapes.items()}
    >>> round(loss(params), 4)  # resting at the start: (0 - 1)^2 + (1.3 + 1.3^3)^2
    13.229
    """
    value, slope = network(params)
    rise, fall = 1.0 - np.exp(-TIMES), np.exp(-TIMES)
    x, p = (START[k] + rise * value[:, k] for k in range(2))
    dx, dp = (fall * value[:, k] + rise * slope[:, k] for k in range(2))
    return float(np.mean((dx - p) ** 2) + np.mean((dp + x + x**3) ** 2))
