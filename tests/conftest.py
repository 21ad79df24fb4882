"""What all tests share: marks, and the shipped recordings of real training."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser):
    parser.addoption("--run-long", action="store_true", help="also run tests that take minutes")


def pytest_collection_modifyitems(config, items):
    if hasattr(config, "workerinput"):
        begin_apart(items)
    if config.getoption("--run-long"):
        return
    for item in items:
        if "long" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="takes minutes; run with --run-long"))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Fail where a file of tests cannot be imported.

    Doctests skip modules that need a package which is not there. They import first, and pytest then finds a
    broken file of tests half imported and takes its few tests, or none, for all there are.
    """
    report = yield
    broken = report.skipped and "unable to import module" in str(report.longrepr)
    if broken and collector.path.name.startswith("test_"):
        report.outcome = "failed"
    return report


def begin_apart(items):
    """Put tests that need no kernels where the second of two processes begins, which is in the middle.

    Meanwhile the first one compiles, and leaves the machine code on disk; else both would compile them all.
    """
    folder = ROOT / "tests" / "trajectory"
    apart = [item for item in items if folder in item.path.parents]
    others = [item for item in items if folder not in item.path.parents]
    middle = len(items) // 2
    items[:] = [*others[:middle], *apart, *others[middle:]]


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def adadelta(root):
    """Open the shipped smooth Adadelta recording."""
    import koopscope

    return koopscope.open_trajectory(root / "data" / "oscillator_adadelta.zarr")


@pytest.fixture(scope="session")
def adam(root):
    """Open the shipped Adam recording, a plain HDF5 file."""
    import koopscope

    return koopscope.open_trajectory(root / "data" / "oscillator_adam.h5")
