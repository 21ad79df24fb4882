from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings

import pytest
from cyclopts import Token

import koopscope
from koopscope_cli import main as main_module
from koopscope_cli.whole_number import whole_number

HEAVY = {"numpy", "xarray", "numba", "matplotlib", "scipy", "zarr", "h5py", "pandas"}
COMMANDS = ("inspect", "fit", "predict", "verify", "spectrum")
MODULES_AFTER = """
import sys
from koopscope_cli.main import main
code = main({words!r})
sys.stderr.write(" ".join(sorted({{name.split(".")[0] for name in sys.modules}})))
sys.exit(code)
"""


@pytest.mark.parametrize("words", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help__loads_nothing_heavy(process, words):
    outcome = process("-c", MODULES_AFTER.format(words=words))
    assert outcome.code == 0
    assert outcome.out.strip()
    assert not HEAVY & set(outcome.err.split())


def test_help__lists_every_command(shell):
    outcome = shell("--help")
    assert outcome.code == 0
    assert all(name in outcome.out for name in COMMANDS)


def test_version__is_the_package_version(process):
    outcome = process("-m", "koopscope_cli", "--version")
    assert (outcome.code, outcome.out.strip()) == (0, koopscope.__version__)


@pytest.mark.parametrize(
    "words",
    [["nonsense"], ["fit"], ["fit", "run.zarr", "--no-such"], ["fit", "run.zarr", "--t1", "first"]],
)
def test_main__unusable_words_exit_2(shell, here, words):
    outcome = shell(*words)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("koopscope: error[usage]: ")
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("option", ["--lag=7.5", "--t2=many", "--delays=inf", "--rank=nan"])
def test_main__what_is_no_whole_number_is_refused_and_not_rounded(option, shell, here):
    outcome = shell("fit", "run.zarr", option)
    name, _, value = option.partition("=")
    assert (outcome.code, outcome.out) == (2, "")
    assert f"Invalid value for {name}: expected a whole number, got '{value}'" in outcome.err


def test_main__one_of_several_leads_is_not_rounded_either(shell, here):
    outcome = shell("predict", "run.koop", "--lead", "10", "2.6")
    assert outcome.code == 2
    assert "Invalid value for --lead" in outcome.err


@pytest.mark.parametrize(("text", "number"), [("100", 100), ("-3", -3), ("100.0", 100), ("1e4", 10_000)])
def test_whole_number__as_people_write_them(text, number):
    found = whole_number(int, [Token(value=text)])
    assert (found, type(found)) == (number, int)


def test_main__reads_the_words_of_the_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["koopscope", "--version"])
    assert main_module.main() == 0
    assert capsys.readouterr().out.strip() == koopscope.__version__


def test_main__internal_error_is_one_line_and_a_hint(shell, recording, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no\nway")

    monkeypatch.setattr(koopscope, "inspect", fail, raising=False)
    outcome = shell("inspect", recording)
    assert outcome.code == 1
    assert outcome.err.splitlines() == [
        "koopscope: internal error: RuntimeError: no way",
        "koopscope: set KOOPSCOPE_DEBUG=1 for the traceback",
    ]
    monkeypatch.setenv("KOOPSCOPE_DEBUG", "1")
    assert "Traceback" in shell("inspect", recording).err


def test_main__warnings_are_one_line(shell, recording, monkeypatch):
    found = koopscope.inspect(recording)

    def warn(*_, **__):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("look\nhere", stacklevel=1)
        return found

    monkeypatch.setattr(koopscope, "inspect", warn, raising=False)
    outcome = shell("inspect", recording)
    assert outcome.code == 0
    assert outcome.err == "koopscope: warning: look here\n"


def test_main__interrupt_exits_130_and_leaves_nothing(shell, recording, here, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(koopscope, "plot_eigs", interrupt, raising=False)
    outcome = shell("fit", recording)
    assert (outcome.code, outcome.out) == (130, "")
    assert [entry.name for entry in here.iterdir()] == ["run.zarr"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_main__terminate_cleans_up(process, recording, here):
    outcome = process(
        "-c",
        "import os, signal, sys, koopscope; from koopscope_cli.main import main\n"
        f"koopscope.plot_eigs = lambda fit: os.kill(os.getpid(), {int(signal.SIGTERM)})\n"
        "sys.exit(main(['fit', 'run.zarr']))",
    )
    assert outcome.code == 143
    assert [entry.name for entry in here.iterdir()] == ["run.zarr"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
def test_main__closed_pipe_is_quiet(process, recording, here):
    read, write = os.pipe()
    os.close(read)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-m", "koopscope_cli", "inspect", "run.zarr"],
        stdout=write,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=here,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
