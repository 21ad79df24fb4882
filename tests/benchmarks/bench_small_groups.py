"""Many small groups against NumPy and PyDMD: python -m pytest -n 0 tests/benchmarks/bench_small_groups.py.

550 nodes of 11 weights over 10 000 float32 snapshots (242 MB). Needs pytest-benchmark and pydmd. Every table
has the reference it is compared with; the figure in brackets is the ratio to the fastest. Where GNU Octave is
installed, its loop over the nodes is timed too, without its start and without reading, and printed. Last come
the ratios of all to each other, from five turns of everything: machines do not keep their speed for long.
"""

from __future__ import annotations

import shutil
import subprocess
import time
import warnings

import numpy as np
import pytest

import koopscope
from koopscope.partition import GroupBlock
from koopscope.statistics.moments import MomentSums, Tiles, blas_moments, kernel_moments, padded_width
from koopscope.threads import n_cores
from koopscope.trajectory import from_arrays

NODES, WIDTH, ROWS, LAG = 550, 10, 10_000, 100


@pytest.fixture(scope="module")
def values():
    """Decays of twelve rates and noise of a float32's size."""
    random = np.random.default_rng(0)
    times = np.linspace(0, 3, ROWS, dtype=np.float32)[:, None]
    decays = np.exp(-times * random.uniform(0.2, 3, 12).astype(np.float32))
    values = decays @ random.normal(size=(12, NODES * (WIDTH + 1))).astype(np.float32)
    values += 1e-5 * random.standard_normal(values.shape, dtype=np.float32)
    return values


@pytest.fixture(scope="module")
def run(values):
    split = NODES * WIDTH
    weight = values[:, :split].reshape(ROWS, NODES, WIDTH)
    return from_arrays(np.arange(ROWS), {"fc.weight": weight, "fc.bias": values[:, split:]})


def node_columns():
    weights = np.arange(NODES * WIDTH).reshape(NODES, WIDTH)
    return np.concatenate([weights, NODES * WIDTH + np.arange(NODES)[:, None]], axis=1)


@pytest.mark.benchmark(group="moments of every pair at lag 1")
def test_reference__numpy_sum(benchmark, values):
    benchmark.pedantic(values.sum, rounds=5, warmup_rounds=1)


def moments_of(values):
    sums = MomentSums(GroupBlock("fc", "fc", node_columns(), np.arange(NODES)), 0, 1)
    sums.add([values], 1)
    return sums.finish()


@pytest.mark.benchmark(group="moments of every pair at lag 1")
def test_moments(benchmark, values):
    found = benchmark.pedantic(moments_of, args=(values,), rounds=5, warmup_rounds=1)
    assert found.n_pairs == ROWS - 1


@pytest.mark.benchmark(group="kernel against BLAS, by weights of a group")
@pytest.mark.parametrize("d", [24, 48, 96, 192, 288, 576, 1152])
@pytest.mark.parametrize("add", [kernel_moments, blas_moments])
def test_crossover(benchmark, values, add, d):
    n_groups = 2304 // d
    rows, rest = values[:4096, : n_groups * d].copy(), np.empty((4096, 0), np.float32)
    members = np.arange(n_groups * d).reshape(n_groups, d)
    padded = padded_width(d)
    products = np.zeros((n_groups, padded, 2 * padded))
    reference = rows[0][members].astype(np.float64)
    groups = members if add is blas_moments else Tiles.of(members, rows.shape[1], n_cores())
    arguments = (groups, rows, rest, reference, 1, 1, products)
    benchmark.pedantic(add, args=arguments, rounds=5, warmup_rounds=1)


def pinv_loop(values):
    """Fit and decompose node by node, as the paper's formula is written."""
    radii = []
    for columns in node_columns():
        data = values[:, columns].T.astype(np.float64)
        operator = data[:, 1:] @ np.linalg.pinv(data[:, :-1])
        radii.append(np.abs(np.linalg.eigvals(operator)).max())
    return radii


def pydmd_loop(values):
    """Exact DMD of every node."""
    from pydmd import DMD

    radii = []
    for columns in node_columns():
        dmd = DMD(svd_rank=-1, exact=True).fit(values[:, columns].T.astype(np.float64))
        radii.append(np.abs(dmd.eigs).max())
    return radii


@pytest.mark.benchmark(group="whole fit with eigenvalues")
@pytest.mark.parametrize("loop", [pinv_loop, pydmd_loop])
def test_reference__loop_over_nodes(benchmark, values, loop):
    with warnings.catch_warnings():
        # PyDMD warns of the condition number of every node; the fits beside it see the same data.
        warnings.filterwarnings("ignore", "Input data condition number", UserWarning)
        radii = benchmark.pedantic(loop, args=(values,), rounds=1)
    assert len(radii) == NODES


OCTAVE = """
file = fopen(argv(){1});
values = fread(file, [%d, %d], "float32=>single");
radii = zeros(%d, 1);
tic;
for node = 1:numel(radii)
  data = double(values([(node - 1) * %d + (1:%d), %d + node], :));
  operator = data(:, 2:end) * pinv(data(:, 1:end-1));
  radii(node) = max(abs(eig(operator)));
end
printf("%%.6f %%.9f\\n", toc, radii(1));
"""


def test_reference__octave_loop_over_nodes(values, tmp_path, capsys):
    octave = shutil.which("octave-cli") or shutil.which("octave")
    if octave is None:
        with capsys.disabled():
            print("\nGNU Octave is not installed: its loop is not timed")
        pytest.skip("GNU Octave is not installed")
    script, recorded = tmp_path / "loop.m", tmp_path / "values"
    split = NODES * WIDTH
    script.write_text(OCTAVE % (split + NODES, ROWS, NODES, WIDTH, WIDTH, split))
    values.tofile(recorded)
    command = [octave, "--quiet", "--no-gui", "--norc", str(script), str(recorded)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    seconds, radius = map(float, printed.split())
    with capsys.disabled():
        print(f"\nGNU Octave, pinv and eig: {seconds:.2f} s, {seconds / NODES * 1e3:.1f} ms a node")
    data = values[:, node_columns()[0]].T.astype(np.float64)
    operator = data[:, 1:] @ np.linalg.pinv(data[:, :-1])
    assert radius == pytest.approx(np.abs(np.linalg.eigvals(operator)).max(), rel=1e-6)


@pytest.mark.benchmark(group="whole fit with eigenvalues")
@pytest.mark.parametrize(
    "settings", [{"lag": 1, "pairs": "every"}, {"lag": LAG}], ids=["every pair, lag 1", "strided, lag 100"]
)
def test_fit(benchmark, run, settings):
    fit = benchmark.pedantic(
        koopscope.fit, args=(run, "node"), kwargs={"t2": ROWS - 1, **settings}, rounds=5, warmup_rounds=1
    )
    assert fit["fc"].sizes["group"] == NODES


@pytest.mark.benchmark(group="forecast")
@pytest.mark.parametrize("lead", [1_000, 1_000_000])
def test_predict(benchmark, run, lead):
    fit = koopscope.fit(run, "node", t2=ROWS - 1, lag=LAG, rank=3)
    benchmark.pedantic(koopscope.predict, args=(fit, lead), rounds=5, warmup_rounds=1)


def seconds(job, calls):
    spent = []
    for _ in range(calls):
        begin = time.perf_counter()
        job()
        spent.append(time.perf_counter() - begin)
    return np.median(spent)


def test_ratios__in_turns(values, run, capsys):
    """Print ratios of what was done in the same turn: medians of five, the least and the most."""
    short = koopscope.fit(run, "node", t2=ROWS - 1, lag=LAG, rank=3)
    jobs = {
        "sum": (values.sum, 5),
        "moments": (lambda: moments_of(values), 5),
        "every pair": (lambda: koopscope.fit(run, "node", t2=ROWS - 1, lag=1, pairs="every"), 5),
        "strided": (lambda: koopscope.fit(run, "node", t2=ROWS - 1, lag=LAG), 15),
        "predict 1 000": (lambda: koopscope.predict(short, 1_000), 25),
        "predict 1 000 000": (lambda: koopscope.predict(short, 1_000_000), 25),
        "pinv loop": (lambda: pinv_loop(values), 1),
        "PyDMD loop": (lambda: pydmd_loop(values), 1),
    }
    for name in list(jobs)[:6]:
        jobs[name][0]()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Input data condition number", UserWarning)
        turns = [{name: seconds(*job) for name, job in jobs.items()} for _ in range(5)]
    pairs = [
        ("moments", "sum"),
        ("pinv loop", "every pair"),
        ("PyDMD loop", "every pair"),
        ("strided", "every pair"),
        ("predict 1 000 000", "predict 1 000"),
    ]
    with capsys.disabled():
        print("\n" + ", ".join(f"{name} {np.median([t[name] for t in turns]) * 1e3:.3g} ms" for name in jobs))
        for one, other in pairs:
            ratios = np.array([turn[one] / turn[other] for turn in turns])
            print(f"{one} / {other}: {np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})")
