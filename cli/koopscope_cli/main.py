"""Entry point of the shell: the list of commands, and how errors, warnings and interrupts leave it."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from cyclopts import App, CycloptsError, Parameter

import koopscope
from koopscope.errors import KoopscopeError, UsageError

# Help texts stand here so that the list of commands imports none of them.
_COMMANDS = {
    "demo": "Fit the recording that comes with koopscope, and draw all there is to see.",
    "inspect": "Show what a recording holds, and what is odd about it.",
    "convert": "Copy a recording of any kind into a Zarr store that reads fast.",
    "fit": "Fit one operator a group of weights, and verify it on the rest of the recording.",
    "predict": "Forecast the weights some steps after t2 and store them.",
    "verify": "Measure a stored fit against the recording at other leads.",
    "ensemble": "Fit and verify many recordings under the same settings; medians over them.",
    "backtest": "Race settings on the window itself, and predict the error of the best.",
    "basin": "Say whether the run has settled, since when, and where to put t1 and t2.",
    "spectrum": "List the eigenvalues of a stored fit and what they mean in training steps.",
    "report": "Write one page of HTML about a stored fit.",
    "prune": "Mask the weights whose predicted end points are smallest.",
    "compare": "Measure how far apart the spectra of stored fits are.",
}
_FAILED, _INTERRUPTED, _TERMINATED = 1, 130, 143
_DEBUG = "KOOPSCOPE_DEBUG"
# New objects between searches for garbage, for a process of our own: importing makes hundreds of thousands
# that stay, and searching these over and over takes a tenth of a short command.
_OBJECTS_BETWEEN_SEARCHES = 200_000


def build_app() -> App:
    """Register every command by name; a command's module loads when it is called."""
    app = App(
        name="koopscope",
        help="Koopman operators for the dynamics of training: from recorded weights to forecasts.",
        help_format="plaintext",  # the richer formats load a Markdown parser
        version=koopscope.__version__,
        default_parameter=Parameter(negative=()),
        suppress_keyboard_interrupt=False,
    )
    for name, summary in _COMMANDS.items():
        app.command(f"koopscope_cli.{name}:{name}", name=name, help=summary)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the shell and return its exit code: 0 good, 1 failed, 2 usage, 3 invalid data.

    Parameters
    ----------
    arguments
        Words after ``koopscope``; by default those of this process.
    """
    if arguments is not None:
        return _guarded(list(arguments))
    gc.set_threshold(_OBJECTS_BETWEEN_SEARCHES)
    exit_code = _guarded(sys.argv[1:])
    gc.freeze()  # what is left ends with the process: no last search through all of it
    return exit_code


def _guarded(words: list[str]) -> int:
    with _one_line_warnings(), _orderly_termination():
        return _run(words)


def _run(words: list[str]) -> int:
    try:
        build_app()(words, print_error=False, exit_on_error=False, result_action="return_value")
        sys.stdout.flush()  # here, where a closed pipe can still be met quietly
    except CycloptsError as error:
        return _tell(UsageError.code, f"{error}; koopscope --help lists what there is", UsageError.exit_code)
    except KoopscopeError as error:
        return _tell(error.code, str(error), error.exit_code)
    except BrokenPipeError:
        # The reader has gone, by choice; what is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        return _tell(KoopscopeError.code, str(error), _FAILED)
    except KeyboardInterrupt:
        sys.stderr.write("koopscope: interrupted\n")
        return _INTERRUPTED
    except Exception as error:
        if os.environ.get(_DEBUG):
            traceback.print_exc()
        sys.stderr.write(f"koopscope: internal error: {_line(type(error).__name__, error)}\n")
        sys.stderr.write(f"koopscope: set {_DEBUG}=1 for the traceback\n")
        return _FAILED
    return 0


def _tell(code: str, message: str, exit_code: int) -> int:
    if os.environ.get(_DEBUG):
        traceback.print_exc()
    sys.stderr.write(f"koopscope: error[{code}]: {message}\n")
    return exit_code


def _line(*parts: object) -> str:
    return " ".join(": ".join(str(part) for part in parts if str(part)).split())


@contextmanager
def _one_line_warnings() -> Iterator[None]:
    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        prefix = "" if issubclass(category, UserWarning) else f"{category.__name__}: "
        sys.stderr.write(f"koopscope: warning: {prefix}{_line(message)}\n")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextmanager
def _orderly_termination() -> Iterator[None]:
    """Let a batch system's SIGTERM clean up as Ctrl-C does."""

    def leave(*_: Any) -> None:
        raise SystemExit(_TERMINATED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
