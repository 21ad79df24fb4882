import gc
import json
import os
import tempfile
import zipfile

import numpy as np
import pytest

from koopscope.errors import StepError, TrajectoryError, UsageError
from koopscope.trajectory import metric_names, open_trajectory, tensor_names

STEPS = [0, 1, 2, 4, 8, 512, 1000, 2000]


def weights(step, dtype=np.float32):
    rng = np.random.default_rng(step)
    return {"fc1.weight": rng.normal(size=(3, 5)).astype(dtype), "fc1.bias": rng.normal(size=3).astype(dtype)}


def as_safetensors(path, tensors, metadata=None):
    """Write the format by hand; bfloat16 is given as (uint16 bits,)."""
    header, parts, place = ({"__metadata__": metadata} if metadata else {}), [], 0
    for name, values in tensors.items():
        code = {"float16": "F16", "float32": "F32", "float64": "F64", "uint16": "BF16", "int64": "I64"}
        content = np.ascontiguousarray(values).tobytes()
        offsets = [place, place + len(content)]
        header[name] = {
            "dtype": code[values.dtype.name],
            "shape": list(values.shape),
            "data_offsets": offsets,
        }
        parts.append(content)
        place += len(content)
    words = json.dumps(header).encode()
    path.write_bytes(len(words).to_bytes(8, "little") + words + b"".join(parts))


def write(folder, kind, step, tensors, name="step_{}"):
    path = folder / f"{name.format(step)}.{kind}"
    if kind == "npz":
        np.savez(path, **tensors)
    else:
        as_safetensors(path, tensors)


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_read_checkpoints__uneven_steps_are_kept(tmp_path, kind):
    for step in STEPS:
        write(tmp_path, kind, step, {**weights(step), "bn.running_mean": np.zeros(2, np.float32)})
    trajectory = open_trajectory(tmp_path)
    assert trajectory["step"].values.tolist() == STEPS
    assert tensor_names(trajectory) == ["fc1.weight", "fc1.bias"]
    assert trajectory.attrs["layout_evidence"].startswith("bias lengths")
    expected = np.stack([weights(step)["fc1.weight"] for step in STEPS])
    np.testing.assert_array_equal(trajectory["fc1.weight"].values, expected)
    found = trajectory["fc1.weight"][::-2, [2, 0], 1].values
    np.testing.assert_array_equal(found, expected[::-2][:, [2, 0], 1])


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_read_checkpoints__dtypes_and_hard_values_are_exact(tmp_path, kind, dtype):
    hard = np.array([[np.nan, np.inf, -0.0], [5e-8, -np.inf, 65504]], dtype)
    write(tmp_path, kind, 3, {"fc.weight": hard})
    found = open_trajectory(tmp_path)["fc.weight"]
    assert found.dtype == dtype
    assert found.values[0].tobytes() == hard.tobytes()


def test_read_checkpoints__bfloat16_is_exact(tmp_path):
    bits = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    as_safetensors(tmp_path / "step_1.safetensors", {"fc.weight": bits})
    found = open_trajectory(tmp_path)["fc.weight"]
    assert found.attrs["source_dtype"] == "bfloat16"
    np.testing.assert_array_equal(found.values[0].view(np.uint32), bits.astype(np.uint32) << 16)


def test_read_checkpoints__what_the_library_writes(tmp_path):
    numpy_files = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    for step in (5, 10):
        numpy_files.save_file(weights(step), tmp_path / f"checkpoint-{step}.safetensors")
    trajectory = open_trajectory(tmp_path)
    assert trajectory["step"].values.tolist() == [5, 10]
    np.testing.assert_array_equal(trajectory["fc1.bias"].values[1], weights(10)["fc1.bias"])


def test_read_checkpoints__opening_reads_no_weight(tmp_path):
    for step in (1, 2, 3):
        write(tmp_path, "safetensors", step, weights(step))
    middle = tmp_path / "step_2.safetensors"
    middle.write_bytes(b"garbage")
    trajectory = open_trajectory(tmp_path)
    with pytest.raises(TrajectoryError, match=r"step_2\.safetensors: expected a header"):
        trajectory["fc1.weight"].load()
    assert trajectory["fc1.weight"][::2].values.shape == (2, 3, 5)


def test_read_checkpoints__single_values_are_metrics(tmp_path):
    for step in (1, 2):
        write(tmp_path, "npz", step, {**weights(step), "loss": np.float64(step), "clip.scale": np.float64(3)})
    trajectory = open_trajectory(tmp_path)
    assert metric_names(trajectory) == ["loss"]
    assert trajectory["loss"].values.tolist() == [1, 2]
    assert trajectory["clip.scale"].values.tolist() == [3, 3]


def test_read_checkpoints__fortran_order_and_compression(tmp_path):
    values = np.asfortranarray(np.arange(15.0).reshape(3, 5))
    np.savez_compressed(tmp_path / "step_1.npz", **{"fc.weight": values})
    np.testing.assert_array_equal(open_trajectory(tmp_path)["fc.weight"].values[0], values)


def test_read_checkpoints__tied_tensors_count_once(tmp_path):
    path = tmp_path / "step_1.safetensors"
    as_safetensors(path, {"wte.weight": np.ones((9, 2), np.float32)}, {"lm_head.weight": "wte.weight"})
    trajectory = open_trajectory(tmp_path)
    assert trajectory.attrs["tied"] == {"lm_head.weight": "wte.weight"}
    assert tensor_names(trajectory) == ["wte.weight"]


def test_read_checkpoints__include_exclude_and_layout(tmp_path):
    square = {"a.weight": np.ones((4, 4), np.float32), "ids.weight": np.ones((2, 2), np.int64)}
    write(tmp_path, "npz", 1, {"a.weight": square["a.weight"]})
    assert "output_axes" not in open_trajectory(tmp_path)["a.weight"].attrs
    assert open_trajectory(tmp_path, layout="keras")["a.weight"].attrs["output_axes"] == [1]
    with pytest.raises(UsageError, match="no tensor is left"):
        open_trajectory(tmp_path, include="b*")


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"fc1.bias": np.zeros(3, np.float32)}, "expected 'fc1.weight' of float32 .*found nothing"),
        ({**weights(1), "fc1.bias": np.zeros(4, np.float32)}, r"found float32 \(4,\)"),
        ({**weights(1), "fc1.bias": np.zeros(3)}, r"found float64 \(3,\)"),
    ],
)
def test_read_checkpoints__files_that_differ(tmp_path, second, words):
    write(tmp_path, "npz", 1, weights(1))
    write(tmp_path, "npz", 2, second)
    with pytest.raises(TrajectoryError, match=words):
        open_trajectory(tmp_path)


def test_read_checkpoints__names_of_files(tmp_path):
    write(tmp_path, "npz", 10, weights(10), name="model.step_{}")
    write(tmp_path, "npz", 7, weights(7), name="0000{}")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "final.npz").write_bytes(b"no number, no checkpoint")
    assert open_trajectory(tmp_path)["step"].values.tolist() == [7, 10]
    write(tmp_path, "npz", 7, weights(7), name="step_0{}")
    with pytest.raises(StepError, match="both of step 7"):
        open_trajectory(tmp_path)
    write(tmp_path, "npz", 7, weights(7), name="step_" + 20 * "9")
    (tmp_path / "step_07.npz").unlink()
    with pytest.raises(StepError, match="at most 18 digits"):
        open_trajectory(tmp_path)


def test_read_checkpoints__mixed_kinds(tmp_path):
    write(tmp_path, "npz", 1, weights(1))
    write(tmp_path, "safetensors", 2, weights(2))
    with pytest.raises(TrajectoryError, match="of one kind"):
        open_trajectory(tmp_path)


def test_read_checkpoints__links_out_of_the_folder(tmp_path):
    inside = tmp_path / "run"
    inside.mkdir()
    write(tmp_path, "npz", 1, weights(1))
    os.symlink(tmp_path / "step_1.npz", inside / "step_1.npz")
    with pytest.raises(TrajectoryError, match="link out of it"):
        open_trajectory(inside)


def test_read_checkpoints__a_changed_byte_of_an_archive_is_found(tmp_path):
    write(tmp_path, "npz", 1, weights(1))
    path = tmp_path / "step_1.npz"
    content = bytearray(path.read_bytes())
    place = content.find(weights(1)["fc1.weight"].tobytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(TrajectoryError, match="damaged"):
        open_trajectory(tmp_path)["fc1.weight"].load()


def test_read_checkpoints__members_that_are_no_arrays(tmp_path):
    with zipfile.ZipFile(tmp_path / "step_1.npz", "w") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(TrajectoryError, match=r"expected only \.npy members"):
        open_trajectory(tmp_path)


def as_pt(torch, path, content):
    torch.save(content, path)


@pytest.mark.parametrize("nested", [False, True])
def test_read_checkpoints__torch_files(tmp_path, nested):
    torch = pytest.importorskip("torch", reason="torch is not installed: .pt files cannot be read")
    for step in (3, 1, 20):
        tensors = {name: torch.from_numpy(values) for name, values in weights(step).items()}
        tensors["half.weight"] = torch.full((2, 2), 1.5, dtype=torch.bfloat16)
        tensors["tied.weight"] = tensors["fc1.weight"]
        as_pt(torch, tmp_path / f"step_{step}.pt", {"model": tensors, "step": step} if nested else tensors)
    trajectory = open_trajectory(tmp_path)
    assert trajectory["step"].values.tolist() == [1, 3, 20]
    expected = np.stack([weights(step)["fc1.weight"] for step in (1, 3, 20)])
    np.testing.assert_array_equal(trajectory["fc1.weight"].values, expected)
    assert trajectory["half.weight"].attrs["source_dtype"] == "bfloat16"
    assert trajectory.attrs["tied"] == {"tied.weight": "fc1.weight"}


def test_read_checkpoints__torch_files_of_anything_else(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed: .pt files cannot be read")
    as_pt(torch, tmp_path / "step_1.pt", [1, 2, 3])
    with pytest.raises(TrajectoryError, match="expected a state_dict"):
        open_trajectory(tmp_path)
    as_pt(torch, tmp_path / "step_1.pt", torch.nn.Linear(2, 2))
    with pytest.raises(TrajectoryError, match="only tensors are read"):
        open_trajectory(tmp_path)


def test_read_checkpoints__torch_files_leave_nothing_behind(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch", reason="torch is not installed: .pt files cannot be read")
    temporary, folder = tmp_path / "tmp", tmp_path / "run"
    temporary.mkdir()
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    as_pt(torch, folder / "step_1.pt", {"fc.weight": torch.ones(2, 3)})
    trajectory = open_trajectory(folder)
    assert list(temporary.iterdir())
    del trajectory
    gc.collect()
    assert not list(temporary.iterdir())
