from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
from recipes.node_rows import fits_by_node, gates_first, node_rows, rows_of

from koopscope.recipes import pytree_weights
from koopscope.trajectory import TrajectoryWriter, open_trajectory

REASON = "is not installed: pip install 'koopscope[frameworks]'"


@pytest.fixture(scope="module")
def jax():
    jax = pytest.importorskip("jax", reason=f"jax {REASON}")
    jax.config.update("jax_disable_most_optimizations", True)  # they take longer than they save
    return jax


class Pair(NamedTuple):
    weight: Any
    bias: Any


@dataclass
class Layer:
    weight: Any
    activation: Any = max
    steps: Any = 3


def test_pytree_weights__names_of_nested_containers():
    array = np.zeros(2, np.float32)
    tree = {"a": [Pair(array, None), Layer(array)], "b": (array,), "ids": np.arange(3), "n": 1}
    assert list(pytree_weights(tree)) == ["a.0.weight", "a.1.weight", "b.0"]
    assert list(pytree_weights(array)) == ["value"]


def train(jax, loss, params, path, layout):
    step = jax.jit(lambda p: jax.tree.map(lambda w, g: w - 0.1 * g, p, jax.grad(loss)(p)))
    with TrajectoryWriter(path, layout=layout, framework="jax") as writer:
        for number in range(5):
            writer.append(number, pytree_weights(params))
            params = step(params)
    return open_trajectory(path)


def test_pytree_weights__flax_linen(jax, tmp_path):
    nn = pytest.importorskip("flax.linen", reason=f"flax {REASON}")

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(4, (3, 3))(x))
            x = nn.ConvTranspose(4, (3, 3))(x)
            x = nn.RNN(nn.LSTMCell(3))(x.reshape(x.shape[0], -1, 4))
            x = nn.MultiHeadDotProductAttention(2, qkv_features=6)(x, x)
            return nn.Dense(4)(nn.LayerNorm()(nn.Dense(4)(x)))

    x = jax.numpy.asarray(np.random.default_rng(0).normal(size=(2, 3, 3, 2)), "float32")
    params = Net().init(jax.random.key(0), x)["params"]
    trajectory = train(
        jax, lambda p: (Net().apply({"params": p}, x) ** 2).mean(), params, tmp_path / "run.zarr", None
    )
    weights = {name: trajectory[name].values[-1] for name in trajectory.data_vars}
    assert trajectory.attrs["layout"] == "flax"
    rows = node_rows(trajectory)
    for layer in ("Conv_0", "ConvTranspose_0", "Dense_0", "Dense_1"):
        kernel = np.moveaxis(weights[f"{layer}.kernel"], -1, 0)
        assert rows[layer] == rows_of(kernel, weights[f"{layer}.bias"])
    query = weights["MultiHeadDotProductAttention_0.query.kernel"]
    bias = weights["MultiHeadDotProductAttention_0.query.bias"].ravel()
    assert rows["MultiHeadDotProductAttention_0.query"] == rows_of(query.reshape(3, -1).T, bias)
    (cell,) = {name.rsplit(".", 2)[0] for name in weights if ".hi." in name}
    own = [values for name, values in weights.items() if name.startswith(cell)]
    fits_by_node(tmp_path / "run.zarr")
    assert rows[cell] == rows_of(*(np.moveaxis(values, -1, 0) for values in own))
    assert (np.diff(trajectory["Dense_0.kernel"].values, axis=0) != 0).any()


def test_pytree_weights__flax_nnx(jax, tmp_path):
    nnx = pytest.importorskip("flax.nnx", reason=f"flax {REASON}")

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(2, 3, (3, 3), rngs=rngs)
            self.fc = nnx.Linear(3, 4, rngs=rngs)
            self.norm = nnx.BatchNorm(4, rngs=rngs)

        def __call__(self, x):
            return self.norm(self.fc(self.conv(x)))

    model = Net(nnx.Rngs(0))
    x = jax.numpy.ones((2, 4, 4, 2))
    with TrajectoryWriter(tmp_path / "run.zarr", layout="flax") as writer:
        for step in range(3):
            writer.append(step, pytree_weights(nnx.state(model, nnx.Param)))
            grads = nnx.grad(lambda net: (net(x) ** 3).sum() + net.fc(net.conv(x)).sum())(model)
            state = jax.tree.map(lambda w, g: w - 0.01 * g, nnx.state(model, nnx.Param), grads)
            nnx.update(model, state)
    trajectory = open_trajectory(tmp_path / "run.zarr")
    assert set(trajectory.data_vars) == {
        "conv.kernel", "conv.bias", "fc.kernel", "fc.bias", "norm.scale", "norm.bias"
    }  # fmt: skip
    weights = {name: trajectory[name].values[-1] for name in trajectory.data_vars}
    for layer in ("conv", "fc"):
        kernel = np.moveaxis(weights[f"{layer}.kernel"], -1, 0)
        assert node_rows(trajectory)[layer] == rows_of(kernel, weights[f"{layer}.bias"])
    assert (np.diff(trajectory["fc.kernel"].values, axis=0) != 0).any()


def test_pytree_weights__haiku(jax, tmp_path):
    hk = pytest.importorskip("haiku", reason=f"dm-haiku {REASON}")

    def net(x):
        x = hk.Conv2D(3, 3, name="conv")(x)
        x = hk.Conv2DTranspose(2, 3, name="conv_transpose")(x)
        x = hk.LayerNorm(-1, True, True, name="norm")(x.reshape(len(x), -1))
        lstm = hk.LSTM(3, name="lstm")
        x, _ = lstm(x, lstm.initial_state(len(x)))
        return hk.Linear(2, name="head")(hk.Linear(3, name="square")(x))

    model = hk.without_apply_rng(hk.transform(net))
    x = jax.numpy.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 2)), "float32")
    params = model.init(jax.random.key(0), x)
    trajectory = train(jax, lambda p: (model.apply(p, x) ** 2).mean(), params, tmp_path / "run.zarr", None)
    assert trajectory.attrs["layout"] == "haiku"
    weights = {name: trajectory[name].values[-1] for name in trajectory.data_vars}
    rows = node_rows(trajectory)
    for layer in ("conv", "square", "head"):
        assert rows[layer] == rows_of(np.moveaxis(weights[f"{layer}.w"], -1, 0), weights[f"{layer}.b"])
    up = np.moveaxis(weights["conv_transpose.w"], -2, 0)
    assert rows["conv_transpose"] == rows_of(up, weights["conv_transpose.b"])
    gates = [gates_first(np.moveaxis(weights[f"lstm.linear.{part}"], -1, 0), 4) for part in "wb"]
    assert rows["lstm.linear"] == rows_of(*gates)
    assert (np.diff(trajectory["head.w"].values, axis=0) != 0).any()
    fits_by_node(tmp_path / "run.zarr")


def test_pytree_weights__bfloat16_is_kept(jax, tmp_path):
    values = jax.numpy.asarray([[1.5, 2.0]], "bfloat16")
    with TrajectoryWriter(tmp_path / "run.zarr", layout="flax") as writer:
        writer.append(0, pytree_weights({"Dense_0": {"kernel": values}}))
    found = open_trajectory(tmp_path / "run.zarr")["Dense_0.kernel"]
    assert found.attrs["source_dtype"] == "bfloat16"
    assert found.values.tolist() == [[[1.5, 2.0]]]


def test_pytree_weights__equinox(jax, tmp_path):
    eqx = pytest.importorskip("equinox", reason=f"equinox {REASON}")
    model = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))
    conv = eqx.nn.Conv2d(2, 3, 3, key=jax.random.key(0))
    weights = pytree_weights({"mlp": model, "conv": conv})
    assert list(weights) == [
        "mlp.layers.0.weight", "mlp.layers.0.bias", "mlp.layers.1.weight", "mlp.layers.1.bias",
        "conv.weight", "conv.bias",
    ]  # fmt: skip
    with TrajectoryWriter(tmp_path / "run.zarr", layout=None) as writer:
        writer.append(0, weights)
    trajectory = open_trajectory(tmp_path / "run.zarr")
    assert trajectory.attrs["layout"] == "equinox"
    assert node_rows(trajectory)["conv"] == rows_of(weights["conv.weight"], weights["conv.bias"].ravel())
