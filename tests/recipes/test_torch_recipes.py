import numpy as np
import pytest
from recipes.node_rows import fits_by_node, gates_first, node_rows, rows_of

import koopscope
from koopscope.errors import LayoutError, UsageError
from koopscope.recipes import (
    LightningCallback,
    TransformersCallback,
    torch_layout,
    torch_recorder,
    torch_weights,
)
from koopscope.trajectory import TensorLayout, open_trajectory, tensor_names

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'koopscope[frameworks]'")
nn = torch.nn


class Everything(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.up = nn.ConvTranspose2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.lstm = nn.LSTM(4, 3, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(6, 6, batch_first=True)
        self.cell = nn.GRUCell(6, 6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.layer_norm = nn.LayerNorm(6)
        self.embedding = nn.Embedding(7, 6)
        self.square = nn.Linear(6, 6)
        self.head = nn.Linear(6, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, images, tokens):
        x = self.norm(self.up(self.conv(images))).flatten(2).swapaxes(1, 2)
        x = self.gru(self.lstm(x)[0])[0] + self.embedding(tokens)[:, None]
        x = self.layer_norm(x + self.attention(x, x, x)[0])
        return self.head(self.square(self.cell(x[:, -1], x[:, 0])))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    torch.manual_seed(0)
    model = Everything()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    path = tmp_path_factory.mktemp("torch") / "run.zarr"
    loss = torch.tensor(0.0)
    with torch_recorder(model, path, optimizer=optimizer, metrics=lambda: {"loss": loss.item()}) as recorder:
        for _ in range(12):
            optimizer.zero_grad()
            logits = model(torch.randn(5, 2, 4, 4), torch.randint(0, 7, (5,)))
            loss = nn.functional.cross_entropy(logits, torch.randint(0, 7, (5,)))
            loss.backward()
            optimizer.step()
    assert recorder.step == 12
    return model, open_trajectory(path)


def last(model, name):
    return model.get_parameter(name).detach().numpy()


def test_torch_recorder__rows_are_those_of_the_training(trained):
    model, trajectory = trained
    assert trajectory["step"].values.tolist() == list(range(13))
    assert "norm.running_mean" not in trajectory
    for name in tensor_names(trajectory):
        values = trajectory[name].values
        np.testing.assert_array_equal(values[-1], last(model, name))
        if name != "up.bias":  # the norm behind it takes it off again
            assert (np.diff(values, axis=0) != 0).any(), f"{name} never moved"


def test_torch_layout__dense_and_convolutions(trained):
    model, trajectory = trained
    rows = node_rows(trajectory)
    assert rows["conv"] == rows_of(last(model, "conv.weight"), last(model, "conv.bias"))
    # Square: only the module type tells that the output is the second axis.
    turned = last(model, "up.weight").swapaxes(0, 1)
    assert rows["up"] == rows_of(turned, last(model, "up.bias"))
    assert rows["square"] == rows_of(last(model, "square.weight"), last(model, "square.bias"))


@pytest.mark.parametrize("suffix", ["l0", "l0_reverse", "l1", "l1_reverse"])
def test_torch_layout__lstm_units_hold_their_four_gates(trained, suffix):
    model, trajectory = trained
    parts = [f"lstm.{part}_{suffix}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    expected = rows_of(*(gates_first(last(model, part), 4) for part in parts))
    assert node_rows(trajectory)[f"lstm.{suffix}"] == expected


@pytest.mark.parametrize(("layer", "suffix"), [("gru", "_l0"), ("cell", "")])
def test_torch_layout__gru_units_hold_their_three_gates(trained, layer, suffix):
    model, trajectory = trained
    parts = [f"{layer}.{part}{suffix}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    expected = rows_of(*(gates_first(last(model, part), 3) for part in parts))
    assert node_rows(trajectory)[layer + suffix.replace("_", ".")] == expected


def test_torch_layout__attention(trained):
    model, trajectory = trained
    rows = node_rows(trajectory)
    packed = [gates_first(last(model, f"attention.in_proj_{part}"), 3) for part in ("weight", "bias")]
    assert rows["attention"] == rows_of(*packed)
    out = [last(model, f"attention.out_proj.{part}") for part in ("weight", "bias")]
    assert rows["attention.out_proj"] == rows_of(*out)


def test_torch_layout__embedding_and_norms(trained):
    model, trajectory = trained
    rows = node_rows(trajectory)
    assert rows["embedding"] == rows_of(last(model, "embedding.weight"))
    for layer in ("norm", "layer_norm"):
        assert rows[layer] == rows_of(last(model, f"{layer}.weight"), last(model, f"{layer}.bias"))


def test_torch_layout__tied_weights_are_recorded_once(trained):
    _, trajectory = trained
    assert "head.weight" not in trajectory
    assert trajectory["embedding.weight"].attrs["role"] == "embedding"
    assert torch_layout(trained[0])["head.weight"].tied_to == "embedding.weight"


def test_torch_recorder__fits_by_node(trained):
    pytest.importorskip("numba", reason="numba is not installed")
    tree = koopscope.fit(trained[1], "node", t1=0, t2=12)
    assert tree.attrs["partition"] == "node"
    fits_by_node(trained[1].attrs["source"])


def test_torch_layout__agrees_with_what_names_say():
    model = nn.Sequential(
        nn.Conv1d(2, 3, 3), nn.Linear(5, 4), nn.Bilinear(2, 3, 4), nn.LSTM(3, 2, proj_size=1)
    )
    told = torch_layout(model)
    assert told["0.weight"].output_axes == (0,)
    assert told["2.weight"] == TensorLayout((0,), (1, 2), role="kernel")
    assert told["3.weight_hr_l0"] == TensorLayout((0,), (1,), role="recurrent", layer="3.l0")


def test_torch_layout__unknown_modules_and_grouped_transposed_convolutions_are_not_guessed(tmp_path):
    class Mix(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 3))
            self.up = nn.ConvTranspose2d(4, 4, 2, groups=2)

    told = torch_layout(Mix())
    assert told["weight"].output_axes is None
    assert told["up.weight"].output_axes is None
    torch_recorder(Mix(), tmp_path / "run.zarr").close()
    with pytest.raises(LayoutError, match="--layout"):
        node_rows(open_trajectory(tmp_path / "run.zarr"))


def test_torch_recorder__every_and_compiled_names(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2))
    wrapped = nn.Module()
    wrapped.add_module("_orig_mod", model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with torch_recorder(wrapped, tmp_path / "run.zarr", optimizer=optimizer, every=3):
        for _ in range(7):
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
    trajectory = open_trajectory(tmp_path / "run.zarr")
    assert trajectory["step"].values.tolist() == [0, 3, 6]
    assert tensor_names(trajectory) == ["0.weight", "0.bias"]
    optimizer.step()  # the hook is gone: this records nothing and raises nothing


def test_torch_recorder__an_exception_keeps_the_rows_and_takes_the_hook_off(tmp_path):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

    def train():
        with torch_recorder(model, tmp_path / "run.zarr", optimizer=optimizer):
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert open_trajectory(tmp_path / "run.zarr").sizes["step"] == 2
    optimizer.step()


def test_torch_recorder__arguments(tmp_path):
    with pytest.raises(UsageError, match="every"):
        torch_recorder(nn.Linear(2, 2), tmp_path / "run.zarr", every=0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_torch_weights__dtypes(dtype):
    model = nn.Linear(3, 2).to(getattr(torch, dtype))
    found = torch_weights(model)["weight"]
    np.testing.assert_array_equal(found.astype(np.float64), model.weight.detach().double().numpy())
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed: bfloat16 is kept as float32")
    assert found.dtype.name == dtype


def trained_by(path, accumulate=1):
    """Give what a trainer with the hooks of Lightning would do."""

    class Trainer:
        global_step = 0

    trainer, model = Trainer(), nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    callback = LightningCallback(path, every=2)
    callback.setup(trainer, model, stage="fit")
    callback.on_train_start(trainer, model)
    for batch in range(8):
        model(torch.ones(1, 2)).sum().backward()
        if (batch + 1) % accumulate == 0:
            optimizer.step()
            trainer.global_step += 1
        callback.on_train_batch_end(trainer, model, None, None, batch)
    callback.on_train_end(trainer, model)
    return model


def test_lightning_callback__hooks(tmp_path):
    model = trained_by(tmp_path / "run.zarr", accumulate=2)
    trajectory = open_trajectory(tmp_path / "run.zarr")
    assert trajectory["step"].values.tolist() == [0, 2, 4]
    np.testing.assert_array_equal(trajectory["weight"].values[-1], model.weight.detach().numpy())


def test_lightning_callback__other_attributes_are_missing(tmp_path):
    callback = LightningCallback(tmp_path / "run.zarr")
    assert callback.on_anything_else() is None
    assert callback.state_dict() == {}
    with pytest.raises(AttributeError):
        callback.spam  # noqa: B018


@pytest.mark.filterwarnings("ignore")
def test_lightning_callback__in_lightning(tmp_path):
    lightning = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")

    class Net(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def training_step(self, batch, index):
            return self.fc(batch[0]).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    model = Net()
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(20, 3)), batch_size=4)
    trainer = lightning.Trainer(
        max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu",
        callbacks=[LightningCallback(tmp_path / "run.zarr")], default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(model, data)
    trajectory = open_trajectory(tmp_path / "run.zarr")
    assert trajectory["step"].values.tolist() == list(range(11))
    assert node_rows(trajectory)["fc"] == rows_of(last(model, "fc.weight"), last(model, "fc.bias"))


@pytest.mark.filterwarnings("ignore")
def test_transformers_callback__in_transformers(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    config = transformers.GPT2Config(vocab_size=11, n_positions=8, n_embd=8, n_layer=1, n_head=2)
    model = transformers.GPT2LMHeadModel(config)
    tokens = torch.arange(8) % 11
    data = [{"input_ids": tokens, "labels": tokens}] * 12
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), per_device_train_batch_size=4, num_train_epochs=2, save_strategy="no",
        report_to=[], use_cpu=True, disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    callback = TransformersCallback(tmp_path / "run.zarr")
    transformers.Trainer(model=model, args=arguments, train_dataset=data, callbacks=[callback]).train()
    trajectory = open_trajectory(tmp_path / "run.zarr")
    assert trajectory["step"].values.tolist() == list(range(7))
    assert "lm_head.weight" not in trajectory
    layer = "transformer.h.0.attn.c_attn"
    turned = [gates_first(last(model, f"{layer}.{part}").T, 3) for part in ("weight", "bias")]
    assert node_rows(trajectory)[layer] == rows_of(*turned)
    layer = "transformer.h.0.mlp.c_fc"
    assert node_rows(trajectory)[layer] == rows_of(
        last(model, f"{layer}.weight").T, last(model, f"{layer}.bias")
    )


def test_transformers_callback__hooks(tmp_path):
    class State:
        global_step = 0

    model, state = nn.Linear(2, 1), State()
    callback = TransformersCallback(tmp_path / "run.zarr")
    callback.on_init_end(None, state, None)
    callback.on_train_begin(None, state, None, model=model)
    for _ in range(3):
        state.global_step += 1
        with torch.no_grad():
            model.weight += 1
        callback.on_step_end(None, state, None, model=model)
    callback.on_train_end(None, state, None)
    assert open_trajectory(tmp_path / "run.zarr")["step"].values.tolist() == [0, 1, 2, 3]
