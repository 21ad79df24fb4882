import time

import pytest

from koopscope.errors import LayoutError, TrajectoryError, UsageError
from koopscope.trajectory.layout import LAYOUTS, resolve
from koopscope.trajectory.tensor_layout import TensorLayout


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
    with pytest.raises(UsageError, match=r"expected one of torch, .*, paddle, got 'tensorflow'"):
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
    with pytest.raises(LayoutError, match=r"names are those of keras.*--layout"):
        resolve({"a.kernel": (3, 5), "a.bias": (3,)}, declared=None)


@pytest.mark.parametrize(
    ("layout", "shapes"),
    [
        ("torch", {"deconv1.weight": (8, 3, 2, 2), "deconv1.bias": (6,)}),
        ("torch", {"up.weight": (8, 8, 2, 2), "other.weight": (8, 3, 2, 2), "other.bias": (3,)}),
        ("torch", {"c.weight": (8, 8, 5)}),
        ("torch", {"bilinear.weight": (2, 3, 4, 5, 6, 7)}),
        ("torch", {"cls_token": (1, 8)}),
        ("torch", {"W1": (3, 4)}),
        ("torch", {"rnn.weight_ih_l0": (10, 3), "rnn.weight_hh_l0": (10, 5)}),
        ("torch", {"rnn.weight_ih_l0": (7, 3), "rnn.weight_hh_l0": (8, 2)}),
        ("flax", {"scanned/kernel": (3, 3, 5), "scanned/bias": (3, 5)}),
        ("keras", {"einsum/kernel": (4, 2, 8)}),
    ],
)
def test_resolve__never_guessed(layout, shapes):
    (first, *_) = resolve(shapes, declared=layout).placements
    assert first.output_axes is None


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


# Name, shape, then output axes, input axes and blocks: one line a kind of tensor of each framework.
TABLE = {
    "torch": [
        ("fc.weight", (3, 5), (0,), (1,), 1),
        ("conv.weight", (8, 3, 5, 5), (0,), (1,), 1),
        ("conv1d.weight", (8, 3, 5), (0,), (1,), 1),
        ("conv3d.weight", (8, 3, 5, 5, 5), (0,), (1,), 1),
        ("up_transpose.weight", (8, 3, 2, 2), (1,), (0,), 1),
        ("depthwise_conv.weight", (8, 1, 3, 3), (0,), (1,), 1),
        ("attn.in_proj_weight", (24, 8), (0,), (1,), 3),
        ("attn.in_proj_bias", (24,), (0,), (), 3),
        ("attn.out_proj.weight", (8, 8), (0,), (1,), 1),
        ("blocks.0.attn.qkv.weight", (24, 8), (0,), (1,), 3),
        ("blocks.0.attn.qkv.bias", (24,), (0,), (), 3),
        ("emb.weight", (100, 8), (0,), (1,), 1),
        ("ln.weight", (8,), (0,), (), 1),
        ("big_norm.weight", (4, 6, 6), (0, 1, 2), (), 1),
        ("big_norm.bias", (4, 6, 6), (0, 1, 2), (), 1),
        ("layer_scale", (8,), (0,), (), 1),
    ],
    "hf-gpt2": [
        ("h.0.attn.c_attn.weight", (8, 24), (1,), (0,), 3),
        ("h.0.attn.c_attn.bias", (24,), (0,), (), 3),
        ("h.0.attn.c_proj.weight", (8, 8), (1,), (0,), 1),
        ("h.0.mlp.c_fc.weight", (8, 32), (1,), (0,), 1),
        ("wte.weight", (100, 8), (0,), (1,), 1),
        ("lm_head.weight", (100, 8), (0,), (1,), 1),
    ],
    "gpt-neox": [("layers.0.attention.query_key_value.weight", (24, 8), (0,), (1,), 1)],
    "keras": [
        ("dense/kernel", (5, 3), (1,), (0,), 1),
        ("conv2d/kernel", (3, 3, 2, 8), (3,), (2,), 1),
        ("conv2d_transpose/kernel", (3, 3, 8, 2), (2,), (3,), 1),
        ("depthwise_conv2d/kernel", (3, 3, 4, 2), (2, 3), (), 1),
        ("sep/depthwise_kernel", (3, 3, 4, 2), (2, 3), (), 1),
        ("sep/pointwise_kernel", (1, 1, 8, 6), (3,), (2,), 1),
        ("lstm/lstm_cell/kernel", (3, 16), (1,), (0,), 4),
        ("lstm/lstm_cell/recurrent_kernel", (4, 16), (1,), (0,), 4),
        ("lstm/lstm_cell/bias", (16,), (0,), (), 4),
        ("gru/gru_cell/kernel", (3, 12), (1,), (0,), 3),
        ("gru/gru_cell/recurrent_kernel", (4, 12), (1,), (0,), 3),
        ("gru/gru_cell/bias", (2, 12), (1,), (), 3),
        ("mha/query/kernel", (8, 2, 4), (1, 2), (0,), 1),
        ("mha/query/bias", (2, 4), (0, 1), (), 1),
        ("mha/attention_output/kernel", (2, 4, 8), (2,), (0, 1), 1),
        ("bn/gamma", (8,), (0,), (), 1),
        ("embedding/embeddings", (50, 8), (0,), (1,), 1),
    ],
    "flax": [
        ("Dense_0/kernel", (5, 3), (1,), (0,), 1),
        ("Conv_0/kernel", (3, 3, 2, 8), (3,), (2,), 1),
        ("ConvTranspose_0/kernel", (3, 3, 2, 8), (3,), (2,), 1),
        ("attn/query/kernel", (8, 2, 4), (1, 2), (0,), 1),
        ("attn/query/bias", (2, 4), (0, 1), (), 1),
        ("attn/out/kernel", (2, 4, 8), (2,), (0, 1), 1),
        ("scan/Dense_0/kernel", (6, 5, 3), (0, 2), (1,), 1),
        ("scan/Dense_0/bias", (6, 3), (0, 1), (), 1),
        ("Embed_0/embedding", (50, 8), (0,), (1,), 1),
    ],
    "haiku": [
        ("mlp/~/linear_0/w", (5, 3), (1,), (0,), 1),
        ("conv2_d/w", (3, 3, 2, 8), (3,), (2,), 1),
        ("conv2_d_transpose/w", (3, 3, 8, 2), (2,), (3,), 1),
        ("lstm/linear/w", (7, 16), (1,), (0,), 4),
        ("lstm/linear/b", (16,), (0,), (), 4),
        ("gru/w_i", (3, 12), (1,), (0,), 3),
        ("gru/w_h", (4, 12), (1,), (0,), 3),
        ("gru/b", (12,), (0,), (), 3),
    ],
    "equinox": [
        ("layers.0.weight", (3, 5), (0,), (1,), 1),
        ("conv.weight", (8, 3, 5, 5), (0,), (1,), 1),
        ("conv.bias", (8, 1, 1), (0, 1, 2), (), 1),
        ("conv_transpose.weight", (8, 3, 5, 5), (0,), (1,), 1),
        ("cell.weight_ih", (12, 3), (0,), (1,), 3),
        ("cell.weight_hh", (12, 4), (0,), (1,), 3),
        ("cell.bias", (12,), (0,), (), 3),
        ("cell.bias_n", (4,), (0,), (), 1),
    ],
    "mlx": [
        ("fc.weight", (3, 5), (0,), (1,), 1),
        ("conv.weight", (8, 5, 5, 3), (0,), (3,), 1),
        ("conv_transpose.weight", (8, 5, 5, 3), (0,), (3,), 1),
        ("lstm.Wx", (16, 3), (0,), (1,), 4),
        ("lstm.Wh", (16, 4), (0,), (1,), 4),
        ("lstm.bias", (16,), (0,), (), 4),
        ("gru.Wx", (12, 3), (0,), (1,), 3),
        ("gru.Wh", (12, 4), (0,), (1,), 3),
        ("gru.b", (12,), (0,), (), 3),
        ("gru.bhn", (4,), (0,), (), 1),
    ],
    "paddle": [
        ("fc.weight", (5, 3), (1,), (0,), 1),
        ("conv.weight", (8, 3, 5, 5), (0,), (1,), 1),
        ("conv_transpose.weight", (8, 3, 5, 5), (1,), (0,), 1),
        ("lstm.weight_ih_l0", (16, 3), (0,), (1,), 4),
        ("lstm.weight_hh_l0", (16, 4), (0,), (1,), 4),
    ],
}


@pytest.mark.parametrize("layout", list(TABLE))
def test_resolve__every_kind_of_tensor_of_every_layout(layout):
    assert set(TABLE) == set(LAYOUTS)
    resolved = resolve({name: shape for name, shape, *_ in TABLE[layout]}, declared=layout)
    found = {
        place.source_name: (place.output_axes, place.input_axes, place.output_blocks)
        for place in resolved.placements
    }
    assert found == {name: tuple(expected) for name, _, *expected in TABLE[layout]}


@pytest.mark.parametrize(
    ("layout", "shapes"),
    [
        ("torch", {"bn.num_batches_tracked": (), "fc.weight": (4, 4)}),
        ("torch", {"attn.in_proj_weight": (12, 4), "fc.weight": (4, 4)}),
        ("hf-gpt2", {"h.0.c_attn.weight": (8, 24), "h.0.c_proj.weight": (8, 8), "lm_head.weight": (9, 8)}),
        ("hf-gpt2", {"h.0.c_fc.weight": (8, 32), "h.0.c_fc.bias": (32,)}),
        ("torch", {"h.0.c_attn.weight": (24, 8), "h.0.c_proj.weight": (8, 8)}),
        ("gpt-neox", {"a.query_key_value.weight": (24, 8)}),
        ("mlx", {"lstm.Wx": (16, 3), "lstm.Wh": (16, 4), "fc.weight": (4, 4)}),
        ("haiku", {"mlp/~/linear_0/w": (4, 4), "mlp/~/linear_0/b": (4,)}),
        (
            "equinox",
            {"conv.weight": (8, 3, 5, 5), "conv.bias": (8, 1, 1), "a.weight": (2, 3), "a.bias": (2,)},
        ),
        ("paddle", {"c.weight": (8, 3, 5, 5), "c.bias": (8,), "a.weight": (3, 2), "a.bias": (2,)}),
        ("torch", {"a.weight": (7, 3), "b.weight": (5, 7), "c.weight": (2, 5)}),
        ("keras", {"a.weight": (3, 7), "b.weight": (7, 5), "c.weight": (5, 2)}),
        ("unknown", {"a.weight": (3, 7), "b.weight": (5, 5)}),
    ],
)
def test_resolve__evidence_names_the_layout(layout, shapes):
    assert resolve(shapes, declared=None).layout == layout


def test_resolve__square_convolutions_go_by_their_names():
    shapes = {
        "conv.weight": (8, 8, 3, 3),
        "deconv.weight": (8, 8, 3, 3),
        "fc.weight": (3, 8),
        "fc.bias": (3,),
    }
    assert axes(shapes) == {"conv.weight": (0,), "deconv.weight": (1,), "fc.weight": (0,), "fc.bias": (0,)}


def test_resolve__bias_length_tells_a_transposed_convolution():
    shapes = {"up.weight": (8, 3, 2, 2), "up.bias": (3,)}
    assert axes(shapes, "torch")["up.weight"] == (1,)


def test_resolve__levels_and_directions_of_a_stacked_cell_are_layers():
    names = ["l0", "l0_reverse", "l1", "l1_reverse"]
    shapes = {f"rnn.{part}_{name}": (8, 2) for name in names for part in ("weight_ih", "weight_hh")}
    placements = resolve(shapes, declared="torch").placements
    assert list(dict.fromkeys(place.layer for place in placements)) == [f"rnn.{name}" for name in names]


def test_resolve__projected_lstm():
    shapes = {"r.weight_ih_l0": (16, 3), "r.weight_hh_l0": (16, 2), "r.weight_hr_l0": (2, 4)}
    found = [(place.output_axes, place.output_blocks) for place in resolve(shapes, declared=None).placements]
    assert found == [((0,), 4), ((0,), 4), ((0,), 1)]


def test_resolve__gates_of_a_flax_cell_are_one_layer():
    gates = ["ii", "if", "ig", "io", "hi", "hf", "hg", "ho"]
    shapes = {f"LSTMCell_0/{gate}/kernel": (4, 4) for gate in gates}
    placements = resolve(shapes, declared=None).placements
    assert {(place.layer, place.output_axes, place.role) for place in placements} == {
        ("LSTMCell_0", (1,), "recurrent")
    }


def test_resolve__what_is_told_outranks_names():
    told = {"conv.weight": TensorLayout((1,), (0,), role="kernel")}
    resolved = resolve({"conv.weight": (8, 8, 3, 3)}, declared="torch", told=told)
    assert resolved.placements[0].output_axes == (1,)
    assert resolved.evidence == "recorded tensor by tensor"


def test_resolve__tied_tensors_count_once():
    told = {"head.weight": TensorLayout(tied_to="emb.weight")}
    resolved = resolve({"emb.weight": (9, 4), "head.weight": (9, 4)}, declared="torch", told=told)
    assert [place.name for place in resolved.placements] == ["emb.weight"]
    assert resolved.tied == {"head.weight": "emb.weight"}


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"b.weight": TensorLayout()}, "no tensor of that name"),
        ({"a.weight": TensorLayout((2,))}, "expected different axes from 0 to 1"),
        ({"a.weight": TensorLayout((0,), (0,))}, "expected different axes"),
        ({"a.weight": TensorLayout((0,), output_blocks=3)}, "divisor of the 4 outputs"),
        ({"a.weight": TensorLayout((0,), role="spam")}, "role: expected one of"),
        ({"a.weight": TensorLayout(tied_to="a.weight")}, "tied_to"),
        ({"a.weight": TensorLayout(tied_to="a.bias")}, "which has shape"),
    ],
)
def test_resolve__what_is_told_must_fit(facts, words):
    with pytest.raises(UsageError, match=words):
        resolve({"a.weight": (4, 5), "a.bias": (4,)}, declared="torch", told=facts)


def test_resolve__twenty_thousand_tensors_in_seconds():
    shapes = {f"m{i}.conv.weight": (4, 4, 3, 3) for i in range(20_000)}
    start = time.process_time()
    resolve(shapes, declared="torch")
    assert time.process_time() - start < 5


def test_resolve__two_names_for_one():
    with pytest.raises(TrajectoryError, match=r"'module\.a\.weight' would both be called"):
        resolve({"a.weight": (2, 3), "module.a.weight": (2, 3)}, declared="torch")
