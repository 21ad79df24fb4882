import numpy as np
import pytest
import xarray as xr

from koopscope.errors import StepError, TrajectoryError, UsageError
from koopscope.trajectory import from_arrays, metric_names, tensor_names, validate


def two_layers(rows=4):
    return {
        "fc2.bias": np.zeros((rows, 2)),
        "fc2.weight": np.ones((rows, 2, 3), np.float32),
        "fc1.bias": np.zeros((rows, 3)),
        "fc1.weight": np.ones((rows, 3, 5)),
    }


def test_from_arrays__dims_attrs_and_order():
    trajectory = from_arrays([1, 2, 4, 8], two_layers(), {"loss": [4, 3, 2, 1]})
    assert tensor_names(trajectory) == ["fc2.weight", "fc2.bias", "fc1.weight", "fc1.bias"]
    assert metric_names(trajectory) == ["loss"]
    assert trajectory["fc1.weight"].dims == ("step", "fc1.weight.out", "fc1.weight.in")
    assert trajectory["fc1.bias"].dims == ("step", "fc1.bias.out")
    assert trajectory["fc2.weight"].attrs == {
        "role": "kernel",
        "layer": "fc2",
        "layer_index": 0,
        "output_axes": [0],
        "input_axes": [1],
        "source_dtype": "float32",
        "output_blocks": 1,
        "source_name": "fc2.weight",
    }
    assert trajectory["loss"].dtype == np.float64
    assert trajectory["step"].dtype == np.int64
    assert trajectory.attrs["koopscope_kind"] == "trajectory"
    assert trajectory.attrs["layout"] == "torch"


def test_from_arrays__unknown_axes_have_no_attrs():
    trajectory = from_arrays([0], {"a.weight": np.zeros((1, 4, 4))}, layout=None)
    assert trajectory["a.weight"].dims == ("step", "a.weight.axis0", "a.weight.axis1")
    assert "output_axes" not in trajectory["a.weight"].attrs


def test_from_arrays__tensor_named_as_the_dim_of_another():
    arrays = {"a.bias": np.zeros((2, 3)), "a.bias.out": np.zeros((2, 3))}
    trajectory = from_arrays([0, 1], arrays)
    assert trajectory["a.bias"].dims == ("step", "a.bias.out_")
    assert not set(trajectory.dims) & set(trajectory.data_vars)


@pytest.mark.parametrize(
    ("steps", "error", "words"),
    [
        ([0, 1], TrajectoryError, "expected 2 rows of 'fc2.weight'"),
        ([0, 1, 1, 2], StepError, "1 followed by 1 at rows 1 and 2"),
        ([0, 3, 2, 1], StepError, r"3 followed by 2 at rows 1 and 2 \(2 such places\)"),
        ([0.0, 1.0, 2.0, 3.0], StepError, "expected integer steps"),
        ([[0, 1, 2, 3]], StepError, "expected integer steps"),
        (np.arange(4, dtype=np.uint64) + 2**63, StepError, r"below 2\^63"),
    ],
)
def test_from_arrays__wrong_steps(steps, error, words):
    with pytest.raises(error, match=words):
        from_arrays(steps, two_layers())


def test_from_arrays__wrong_arrays():
    with pytest.raises(TrajectoryError, match="found int64"):
        from_arrays([0], {"a.bias": np.zeros((1, 2), np.int64)})
    with pytest.raises(UsageError, match="leading axis of steps"):
        from_arrays([0], {"a.bias": 1.0})
    with pytest.raises(TrajectoryError, match="at least one tensor"):
        from_arrays([0], {})
    with pytest.raises(TrajectoryError, match=r"more than one is called 'a\.bias'"):
        from_arrays([0], {"a.bias": np.zeros((1, 2))}, {"a.bias": [1.0]})
    with pytest.raises(TrajectoryError, match="'step'"):
        from_arrays([0], {"step": np.zeros((1, 2))})


def test_validate__slices_pass():
    trajectory = from_arrays([1, 2, 4, 8], two_layers(), {"loss": [4, 3, 2, 1]})
    validate(trajectory.isel(step=slice(1, 3)))
    validate(trajectory[["fc1.weight"]])


def test_validate__hand_made_dataset_names_the_way_in():
    made = xr.Dataset({"w": (("time", "x"), np.zeros((3, 2)))})
    with pytest.raises(TrajectoryError, match=r"koopscope\.open_trajectory.*from_arrays") as raised:
        validate(made)
    message = str(raised.value)
    assert "koopscope_kind" in message
    assert "leading dim 'step'" in message
    assert "coord 'step'" in message


@pytest.mark.parametrize(
    ("attrs", "words"),
    [
        ({"layer": ".."}, "a layer with a name"),
        ({"layer": ""}, "a layer with a name"),
        ({"layer": "a//b"}, "a layer with a name"),
        ({"output_axes": [0, 0]}, "different output_axes below 2"),
        ({"output_axes": [2]}, "different output_axes below 2"),
        ({"output_blocks": 0}, "output_blocks of 1 or more"),
    ],
)
def test_validate__attributes_that_no_partition_can_follow(attrs, words):
    trajectory = from_arrays([1, 2, 4, 8], two_layers())
    trajectory["fc1.weight"].attrs |= attrs
    with pytest.raises(TrajectoryError, match=words):
        validate(trajectory)


def test_validate__other_objects():
    with pytest.raises(TrajectoryError, match="got dict"):
        validate({})
