import numpy as np
import pytest

from koopscope.trajectory import from_arrays, inspect
from koopscope.trajectory.lints import lint

ROWS = 20


def moving(seed=0, dtype=np.float32):
    return np.cumsum(np.random.default_rng(seed).normal(size=(ROWS, 4, 3)), axis=0).astype(dtype)


def kinds(arrays, steps=None):
    words = lint(from_arrays(np.arange(ROWS) if steps is None else steps, arrays))
    return [word.partition(":")[0] for word in words]


def test_lint__a_good_recording_has_none():
    assert kinds({"a.weight": moving(0), "b.weight": moving(1)}) == []


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("dead", np.zeros((ROWS, 4, 3))),
        ("frozen", np.ones((ROWS, 4, 3))),
        ("non-finite", np.full((ROWS, 4, 3), np.nan)),
        ("noise floor", (1 + np.arange(ROWS)[:, None, None] * 1.2e-7 * np.ones((4, 3))).astype(np.float32)),
    ],
)
def test_lint__one_tensor(kind, values):
    assert kinds({"good.weight": moving(), "odd.weight": values}) == [kind]


def test_lint__duplicates():
    words = lint(from_arrays(np.arange(ROWS), {"a.weight": moving(), "b.weight": moving()}))
    assert words == ["duplicate: b.weight equals a.weight in the rows looked at; tied weights count once"]


def test_lint__uneven_steps():
    assert kinds({"a.weight": moving()}, steps=2 ** np.arange(ROWS)) == ["uneven"]


def test_lint__one_row_or_none():
    assert kinds({"a.weight": moving()[:1]}, steps=[3]) == []
    assert lint(from_arrays(np.arange(ROWS), {"a.weight": moving()}).isel(step=slice(0, 0))) == []


def test_lint__looks_at_a_bounded_part(monkeypatch):
    monkeypatch.setattr("koopscope.trajectory.lints._READ_BYTES", 1000)
    assert kinds({"a.weight": moving(), "b.weight": moving(1)}) == ["unread"]


def test_inspect__lints_and_size():
    run = from_arrays(np.arange(ROWS), {"a.weight": np.zeros((ROWS, 4, 3), np.float32)})
    attrs = inspect(run).attrs
    assert attrs["lints"][0].startswith("dead: a.weight")
    assert attrs["bytes"] == ROWS * 12 * 4
    assert attrs["tied"] == {}
    assert inspect(run, lints=False).attrs["lints"] == []
