"""Forecasts that go back into the framework: names, dtypes, tied weights, files."""

import numpy as np
import pytest

import koopscope
from koopscope.errors import OutputExistsError, ResultError, UsageError
from koopscope.simulation import linear_run
from koopscope.trajectory import from_arrays


@pytest.fixture(scope="module")
def forecast():
    return koopscope.predict(koopscope.fit(linear_run(dtype="float32"), t2=800, lag=10), 200)


def test_state_dict__keeps_names_shapes_and_dtypes(forecast):
    weights = koopscope.state_dict(forecast)
    assert list(weights) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    for name, values in weights.items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, forecast[name].values[0].astype(np.float32))


def test_state_dict__tied_wrapped_half_and_frozen_weights(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="bfloat16 has no other dtype in NumPy")
    random = np.random.default_rng(1)
    line, frozen = random.normal(size=(4, 3)), random.normal(size=3).astype(np.float16)
    path = tmp_path / "run.zarr"
    told = {"_orig_mod.head.weight": koopscope.TensorLayout(tied_to="_orig_mod.embed.weight")}
    with koopscope.TrajectoryWriter(path, layout="torch", tensors=told) as writer:
        for step in range(60):
            embed = (line * (1 + step / 100)).astype(ml_dtypes.bfloat16)
            row = {"_orig_mod.embed.weight": embed, "_orig_mod.head.weight": embed}
            writer.append(step, row | {"_orig_mod.norm.weight": frozen})
    fit = koopscope.fit(koopscope.open_trajectory(path), "layer", t2=40, lag=1)
    koopscope.save(fit, tmp_path / "fit.zarr")
    forecast = koopscope.predict(koopscope.load(tmp_path / "fit.zarr"), [5, 10])
    weights = koopscope.state_dict(forecast, 10)
    assert sorted(weights) == [f"_orig_mod.{name}.weight" for name in ("embed", "head", "norm")]
    assert weights["_orig_mod.head.weight"] is weights["_orig_mod.embed.weight"]
    assert weights["_orig_mod.head.weight"].dtype == ml_dtypes.bfloat16
    expected = forecast["embed.weight"].sel(lead=10).values.astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(weights["_orig_mod.embed.weight"], expected)
    assert weights["_orig_mod.norm.weight"].dtype == np.float16
    np.testing.assert_array_equal(weights["_orig_mod.norm.weight"], frozen)
    koopscope.export(forecast, tmp_path / "weights.npz", 10)
    with np.load(tmp_path / "weights.npz") as stored:
        assert stored["_orig_mod.head.weight"].dtype == np.float32
        np.testing.assert_array_equal(stored["_orig_mod.head.weight"], expected.astype(np.float32))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_export__files_hold_the_state_dict(forecast, tmp_path, suffix):
    numpy = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    path = tmp_path / f"weights{suffix}"
    koopscope.export(forecast, path)
    stored = numpy.load_file(path) if suffix == ".safetensors" else dict(np.load(path))
    expected = koopscope.state_dict(forecast)
    assert stored.keys() == expected.keys()
    for name, values in expected.items():
        assert stored[name].dtype == values.dtype
        np.testing.assert_array_equal(stored[name], values)
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
    (tmp_path / "any file").touch()
    assert path.stat().st_mode == (tmp_path / "any file").stat().st_mode
    with pytest.raises(OutputExistsError, match="--overwrite"):
        koopscope.export(forecast, path)
    koopscope.export(forecast, path, overwrite=True)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_state_dict__loads_strictly_into_torch(dtype, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="bfloat16 has no other dtype in NumPy")

    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(5, 3)
            self.norm = torch.nn.BatchNorm1d(3)
            self.head = torch.nn.Linear(3, 5, bias=False)
            self.head.weight = self.embed.weight

    torch.manual_seed(0)
    model = Tied().to(getattr(torch, dtype))
    model.norm.weight.requires_grad_(False)
    path = tmp_path / "run.zarr"
    told = koopscope.recipes.torch_layout(model)
    with koopscope.TrajectoryWriter(path, layout="torch", tensors=told) as writer:
        for step in range(40):
            writer.append(step, koopscope.recipes.torch_weights(model))
            with torch.no_grad():
                model.embed.weight.mul_(1.01)
    fit = koopscope.fit(koopscope.open_trajectory(path), "layer", t2=30, lag=1)
    forecast = koopscope.predict(fit, 5)
    weights = koopscope.state_dict(forecast, framework="torch")
    buffers = {name for name, _ in model.named_buffers()}
    assert set(model.state_dict()) - set(weights) == buffers
    model.load_state_dict(model.state_dict() | weights, strict=True)
    assert model.head.weight is model.embed.weight
    expected = torch.tensor(forecast["embed.weight"].values[0]).to(getattr(torch, dtype))
    assert torch.equal(model.embed.weight.detach(), expected)
    assert torch.equal(model.norm.weight.detach(), torch.ones(3, dtype=getattr(torch, dtype)))


def test_state_dict__refuses_what_it_cannot_serve(forecast, tmp_path):
    run = linear_run()
    many = koopscope.predict(koopscope.fit(run, t2=800, lag=10), [10, 20])
    with pytest.raises(UsageError, match="holds the leads 10, 20: say which"):
        koopscope.state_dict(many)
    with pytest.raises(UsageError, match="lead=30 is not in the forecast"):
        koopscope.state_dict(many, 30)
    with pytest.raises(UsageError, match="one of numpy, torch"):
        koopscope.state_dict(forecast, framework="mxnet")
    with pytest.raises(ResultError, match=r"koopscope\.predict makes one"):
        koopscope.state_dict(run)
    with pytest.raises(UsageError, match=r"ends in \.npz or \.safetensors"):
        koopscope.export(forecast, tmp_path / "weights.pt")
    with pytest.raises(UsageError, match="there is no folder"):
        koopscope.export(forecast, tmp_path / "missing" / "weights.npz")


def test_state_dict__refuses_a_forecast_beyond_its_own_dtype():
    steps = np.arange(60)
    growing = np.exp(steps / 8.0)[:, None, None] * np.ones((1, 1, 2))
    fit = koopscope.fit(from_arrays(steps, {"fc.weight": growing.astype(np.float16)}), t2=50, lag=1)
    with pytest.raises(ResultError, match="not finite in float16"):
        koopscope.state_dict(koopscope.predict(fit, 200))
