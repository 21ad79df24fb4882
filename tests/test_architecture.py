"""The rules of the house: which file may import what, which names are public, and what the wheel holds."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

import koopscope

PACKAGE = Path(koopscope.__file__).parent
ROOT = Path(__file__).resolve().parents[1]

# Data flows down this list; a file imports from above its own line, or from its own folder.
ORDER = [
    "versions",
    "errors",
    "targets",
    "whole_numbers",
    "verdicts",
    "summary",
    "variables",
    "progress",
    "examples",
    "threads",
    "parallel",
    "trajectory",
    "recipes",
    "weight_vector",
    "partition",
    "simulation",
    "kernels",
    "statistics",
    "rates",
    "costs",
    "operators",
    "eigen",
    "fit_tree",
    "filtering",
    "lazy_forecast",
    "forecasting",
    "exporting",
    "metrics",
    "loss",
    "hindcast",
    "origin_fits",
    "members",
    "race",
    "backtesting",
    "choice",
    "solving",
    "stabilising",
    "fitting",
    "verification",
    "eigenvalue_classes",
    "intervals",
    "reduced_states",
    "spectra",
    "window_fits",
    "basin_criteria",
    "surrogates",
    "basin_table",
    "suggestions",
    "basin",
    "recent_windows",
    "following",
    "ensembles",
    "comparison",
    "pruning",
    "results",
    "plots",
    "reporting",
    "accessor",
]

# Which folders may import a heavy library; `{}` is the whole list of places.
HOMES = {
    "numba": {"kernels"},
    "zarr": {"trajectory", "results"},
    "h5py": {"trajectory", "results"},
    "matplotlib": {"plots"},
    "bokeh": {"reporting"},
    "jinja2": {"reporting"},
    "dask": {"parallel"},
    "distributed": {"parallel"},
    "torch": set(),
    "jax": set(),
    "flax": set(),
    "keras": set(),
    "lightning": set(),
    "transformers": set(),
    "rich": set(),
    "cyclopts": set(),
    "pickle": set(),
    "pandas": set(),
}


def stage(path):
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports__point_up_the_list(path):
    own = stage(path)
    assert own in ORDER, f"{own} has no place in the order"
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "koopscope" and len(parts) > 1 and parts[1] in ORDER and parts[1] != own:
            assert ORDER.index(parts[1]) < ORDER.index(own), f"{path} imports {name}"
        if parts[0] in HOMES:
            assert own in HOMES[parts[0]], f"{path} imports {name}"


def test_kernels__import_nothing_else_of_koopscope():
    for path in (PACKAGE / "kernels").glob("*.py"):
        inside = {name for name in imports(path) if name.startswith("koopscope")}
        assert all(name.startswith("koopscope.kernels") for name in inside), path


def test_operators__know_no_xarray_and_no_files():
    for path in (PACKAGE / "operators").glob("*.py"):
        assert not {"xarray", "zarr", "h5py"} & {name.split(".")[0] for name in imports(path)}, path


def test_cli__imports_only_public_names():
    for path in (ROOT / "cli" / "koopscope_cli").glob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "koopscope":
                public = node.module == "koopscope" or node.module.split(".")[1] in koopscope.__all__
                assert public, f"{path}: from {node.module} import ..."
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "koopscope":
                assert node.attr in {*koopscope.__all__, "__version__"}, f"{path}: koopscope.{node.attr}"


def test_public_names__resolve_and_star_import():
    scope = {}
    exec("from koopscope import *", scope)
    assert set(koopscope.__all__) <= set(scope)
    assert callable(koopscope.fit)
    assert callable(koopscope.inspect)


def test_public_names__no_module_bears_the_name_of_a_function():
    functions = {name for name in koopscope.__all__ if callable(getattr(koopscope, name))}
    modules = {stage(path) for path in MODULES}
    assert not functions & modules
    for module in sorted(modules):
        __import__(f"koopscope.{module}")
    assert all(callable(getattr(koopscope, name)) for name in functions)


def test_public_names__have_docstrings_with_examples():
    for name in ("fit", "predict", "verify", "spectrum", "save", "collect"):
        text = getattr(koopscope, name).__doc__
        assert "Raises" in text, name
        assert ">>>" in text, name


def test_import__is_light():
    code = "import koopscope, sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"numpy", "xarray", "numba", "matplotlib", "zarr", "h5py", "scipy"} & set(loaded)


def test_wheel__lists_every_folder_of_the_tree():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    found = {
        ".".join(path.parent.relative_to(base).parts)
        for base, pattern in ((ROOT, "koopscope/**/__init__.py"), (ROOT / "cli", "koopscope_cli/__init__.py"))
        for path in base.glob(pattern)
    }
    assert listed - {"koopscope.example_run"} == found  # a recording, without modules


def test_files__are_one_idea_long():
    for path in [*MODULES, *(ROOT / "cli").rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 350, path


def test_wheel__holds_exactly_the_files_of_the_tree():
    """Compares what pip installed with this tree, byte for byte."""
    # Searched where pip installs: building leaves metadata in the checkout too, which lists the sources.
    found = list(metadata.distributions(name="koopscope", path=[sysconfig.get_path("purelib")]))
    if not found:
        pytest.skip("koopscope is not installed here; python -m pip install . first")
    installed = found[0].files or []
    files = {str(file): file for file in installed if file.parts[0] in ("koopscope", "koopscope_cli")}
    files = {name: file for name, file in files.items() if file.suffix in (".py", ".typed", ".j2")}
    if not files:
        pytest.skip("koopscope is installed editable: there are no copies to compare")
    tree = {
        str(path.relative_to(base)): path
        for base in (ROOT, ROOT / "cli")
        for folder in ("koopscope", "koopscope_cli")
        for path in (base / folder).rglob("*")
        if path.suffix in (".py", ".typed", ".j2")
    }
    assert set(files) == set(tree)
    for name, path in tree.items():
        assert files[name].locate().read_bytes() == path.read_bytes(), f"{name}: installed copy is stale"
