import pytest

from koopscope.trajectory.names import clean, dimension_names, is_buffer, layer_indices, layer_of


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("fc1.weight", "fc1.weight"),
        ("fc1/weight", "fc1.weight"),
        ("/fc1/weight", "fc1.weight"),
        ("dense/kernel:0", "dense.kernel"),
        ("module.fc1.weight", "fc1.weight"),
        ("_orig_mod.module.fc1.weight", "fc1.weight"),
        ("net._fsdp_wrapped_module.fc1.weight", "net.fc1.weight"),
        ("net.module.fc1.weight", "net.module.fc1.weight"),
        ("module", "module"),
    ],
)
def test_clean__wrappers_and_slashes(source, name):
    assert clean(source) == name


@pytest.mark.parametrize("name", ["bn.running_mean", "bn/moving_variance:0", "bn.num_batches_tracked"])
def test_is_buffer__running_statistics(name):
    assert is_buffer(name)


@pytest.mark.parametrize("name", ["bn.weight", "running.weight", "running_mean.bias"])
def test_is_buffer__weights(name):
    assert not is_buffer(name)


def test_layer_of__name_without_dot_is_its_own_layer():
    assert layer_of("W1") == "W1"


def test_layer_indices__appearance_or_natural_order():
    names = ["fc10", "fc2", "fc10"]
    assert layer_indices(names, natural=False) == {"fc10": 0, "fc2": 1}
    assert layer_indices(names, natural=True) == {"fc2": 0, "fc10": 1}


def test_layer_indices__digits_beside_letters_compare():
    assert list(layer_indices(["1", "a", "a1"], natural=True)) == ["1", "a", "a1"]


def test_dimension_names__never_another_variable():
    assert dimension_names("a", 1, (0,), (), {"a", "a.out"}) == ("step", "a.out_")


def test_dimension_names__unknown_axes():
    assert dimension_names("a", 2, None, None, set()) == ("step", "a.axis0", "a.axis1")
