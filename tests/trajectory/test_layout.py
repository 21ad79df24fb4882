import pytest

from koopscope.errors import LayoutError, TrajectoryError, UsageError
from koopscope.trajectory.layout import resolve


def axes(shapes, declared=None):
    return {place.name: place.output_axes for place in resolve(shapes, declared=declared).placements}


@pytest.mark.parametrize(
    ("layout", "dense", "conv"),
    [
        ("torch", ("fc.weight", (3, 5), 0), ("conv.weight", (8, 3, 5, 5), 0)),
        ("keras", ("fc/kernel", (5, 3), 1), ("conv/kernel", (5, 5, 3, 8), 3)),
        ("flax", ("fc/kernel", (5, 3), 1), ("conv/kernel", (5, 5, 3, 8), 3)),
    ],
)
def test_resolve__declared(layout, dense, conv):
    for source, shape, output in (dense, conv):
        resolved = resolve({source: shape}, declared=layout)
        assert resolved.layout == layout
        assert resolved.placements[0].output_axes == (output,)
        assert resolved.evidence.startswith(f"declared: {layout}")


def test_resolve__input_axis_stands_beside_the_output_axis():
    (conv,) = resolve({"c.weight": (8, 3, 5, 5)}, declared="torch").placements
    assert conv.input_axes == (1,)
    (conv,) = resolve({"c.kernel": (5, 5, 3, 8)}, declared="keras").placements
    assert conv.input_axes == (2,)


def test_resolve__unknown_layout_name():
    with pytest.raises(UsageError, match="expected one of torch, keras, flax, got 'tensorflow'"):
        resolve({"a.weight": (2, 3)}, declared="tensorflow")


def test_resolve__bias_length_decides_for_the_whole_file():
    shapes = {"a.weight": (3, 5), "a.bias": (3,), "square.weight": (4, 4), "square.bias": (4,)}
    assert axes(shapes)["square.weight"] == (0,)
    transposed = {**shapes, "a.weight": (5, 3)}
    assert axes(transposed)["square.weight"] == (1,)
    assert resolve(transposed, declared=None).evidence == "bias lengths: the kernel of a is (in, out)"


def test_resolve__all_square_stays_unknown():
    resolved = resolve({"a.weight": (4, 4), "a.bias": (4,)}, declared=None)
    assert resolved.layout == "unknown"
    assert resolved.evidence.startswith("none")
    assert [place.output_axes for place in resolved.placements] == [None, (0,)]


def test_resolve__names_of_keras_and_flax():
    assert resolve({"dense/kernel": (4, 4)}, declared=None).layout == "keras"
    assert resolve({"Dense_0/kernel": (4, 4)}, declared=None).layout == "flax"
    assert axes({"dense/kernel": (4, 4)}) == {"dense.kernel": (1,)}


def test_resolve__biases_that_contradict_each_other():
    shapes = {"a.weight": (3, 5), "a.bias": (3,), "b.weight": (3, 5), "b.bias": (5,)}
    with pytest.raises(LayoutError, match="--layout"):
        resolve(shapes, declared=None)


@pytest.mark.parametrize("shapes", [{"a.weight": (3, 5), "a.bias": (5,)}])
def test_resolve__bias_against_declared(shapes):
    with pytest.raises(LayoutError, match=r"declared: torch.*--layout"):
        resolve(shapes, declared="torch")


def test_resolve__bias_against_names():
    with pytest.raises(LayoutError, match=r"names end in 'kernel'.*--layout"):
        resolve({"a.kernel": (3, 5), "a.bias": (3,)}, declared=None)


@pytest.mark.parametrize(
    "shapes",
    [
        {"up_transpose.weight": (8, 3, 2, 2)},
        {"deconv1.weight": (8, 3, 2, 2), "deconv1.bias": (3,)},
        {"up.weight": (8, 3, 2, 2), "up.bias": (3,)},
        {"c.weight": (8, 3, 5)},
        {"c_attn.weight": (8, 24), "c_attn.bias": (24,)},
        {"bilinear.weight": (2, 3, 4, 5, 6, 7)},
        {"lstm.weight_ih_l0": (16, 3), "lstm.weight_hh_l0": (16, 4), "lstm.bias_ih_l0": (16,)},
        {"wte.weight": (100, 8)},
        {"attention.in_proj_weight": (24, 8)},
        {"cls_token": (1, 8)},
        {"W1": (3, 4)},
    ],
)
def test_resolve__never_guessed(shapes):
    placements = resolve(shapes, declared="torch").placements
    assert all(place.output_axes is None for place in placements if place.role != "bias")


def test_resolve__convolutions_without_bias_need_a_stated_layout():
    shapes = {"fc.weight": (5, 3), "fc.bias": (3,), "conv.weight": (8, 3, 3, 3)}
    assert axes(shapes)["conv.weight"] is None


def test_resolve__convolutions_speak_where_nothing_dense_does():
    assert axes({"c.weight": (8, 3, 5, 5), "c.bias": (8,)})["c.weight"] == (0,)
    assert axes({"c.weight": (5, 5, 3, 8), "c.bias": (8,)})["c.weight"] == (3,)


def test_resolve__roles():
    shapes = {
        "bn.weight": (8,),
        "bn.bias": (8,),
        "bn.running_mean": (8,),
        "gru.recurrent_kernel": (4, 12),
        "gru.bias": (12,),
        "embedding.weight": (10, 4),
    }
    roles = {place.name: place.role for place in resolve(shapes, declared=None).placements}
    assert roles == {
        "bn.weight": "norm",
        "bn.bias": "bias",
        "gru.recurrent_kernel": "recurrent",
        "gru.bias": "recurrent",
        "embedding.weight": "embedding",
    }


def test_resolve__two_names_for_one():
    with pytest.raises(TrajectoryError, match=r"'module\.a\.weight' would both be called"):
        resolve({"a.weight": (2, 3), "module.a.weight": (2, 3)}, declared="torch")
