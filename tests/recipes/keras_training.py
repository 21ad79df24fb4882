"""Trains a small Keras model for real and compares its recording with it: python keras_training.py PATH.

The back end is chosen when Keras is first imported, so each one has a process of its own.
"""

from __future__ import annotations

import sys

import numpy as np
from recipes.node_rows import fits_by_node, gates_first, node_rows, rows_of

import koopscope
from koopscope.recipes import KerasCallback, keras_weights


def small_model(keras):
    layers = keras.layers
    images = keras.Input((6, 6, 4))
    x = layers.Conv2D(4, 3, padding="same", name="conv")(images)
    x = layers.Conv2DTranspose(4, 3, padding="same", name="up")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x)
    x = layers.SeparableConv2D(5, 3, name="separable")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.LSTM(3, return_sequences=True, name="lstm")(layers.Reshape((4, 5))(x))
    x = layers.Bidirectional(layers.GRU(2, return_sequences=True), name="both")(x)
    x = layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    x = layers.Dense(4, name="square")(layers.LayerNormalization(name="layer_norm")(x))
    return keras.Model(images, layers.Dense(1, name="head")(layers.Flatten()(x)), name="net")


def expected_rows(weights):
    def last(name):
        return np.moveaxis(weights[name], -1, 0)

    cell = "lstm/lstm_cell"
    gru = "both/forward_gru/gru_cell"
    query = weights["attention/query/kernel"]
    return {
        "conv": rows_of(last("conv/kernel"), weights["conv/bias"]),
        "up": rows_of(np.moveaxis(weights["up/kernel"], -2, 0), weights["up/bias"]),
        "depthwise": rows_of(weights["depthwise/kernel"].reshape(9, -1).T, weights["depthwise/bias"]),
        "separable": rows_of(last("separable/pointwise_kernel"), weights["separable/bias"]),
        "norm": rows_of(weights["norm/gamma"], weights["norm/beta"]),
        "lstm.lstm_cell": rows_of(
            *(gates_first(last(f"{cell}/{part}"), 4) for part in ("kernel", "recurrent_kernel", "bias"))
        ),
        "both.forward_gru.gru_cell": rows_of(
            *(gates_first(last(f"{gru}/{part}"), 3) for part in ("kernel", "recurrent_kernel", "bias"))
        ),
        "attention.query": rows_of(query.reshape(len(query), -1).T, weights["attention/query/bias"].ravel()),
        "attention.attention_output": rows_of(
            last("attention/attention_output/kernel"), weights["attention/attention_output/bias"]
        ),
        "square": rows_of(last("square/kernel"), weights["square/bias"]),
        "head": rows_of(last("head/kernel"), weights["head/bias"]),
    }


def main(path):
    import keras  # here, so that collecting tests does not choose a back end

    keras.utils.set_random_seed(0)
    model = small_model(keras)
    model.compile(keras.optimizers.SGD(0.001), "mse")
    rng = np.random.default_rng(0)
    images, targets = rng.random((20, 6, 6, 4), np.float32), rng.random((20, 1), np.float32)
    model.fit(images, targets, batch_size=5, epochs=3, verbose=0, callbacks=[KerasCallback(path, every=2)])
    weights = keras_weights(model)
    trajectory = koopscope.open_trajectory(path)
    assert trajectory["step"].values.tolist() == [0, 2, 4, 6, 8, 10, 12]
    for name, values in weights.items():
        np.testing.assert_array_equal(trajectory[name.replace("/", ".")].values[-1], values)
    assert (np.diff(trajectory["head.kernel"].values, axis=0) != 0).any(axis=(1, 2)).all()
    found = node_rows(trajectory)
    for layer, rows in expected_rows(weights).items():
        assert found[layer] == rows, layer
    fits_by_node(path)
    by_names = koopscope.open_trajectory(path, layout="keras")
    assert by_names["attention.query.kernel"].attrs["output_axes"] == [1, 2]
    sys.stdout.write(f"{keras.backend.backend()} agrees\n")


if __name__ == "__main__":
    main(sys.argv[1])
