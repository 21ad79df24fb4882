"""Every error that koopscope raises on purpose: typed, with a stable code and the exit code of the shell.

A message says what was expected, what was received, where, and what mends it. Scripts should test
``error.code``; messages may be reworded between versions, codes may not.
"""

from __future__ import annotations


class KoopscopeError(Exception):
    """Base of all errors raised on purpose; carries a stable ``code`` and the shell's ``exit_code``."""

    code = "failed"
    exit_code = 1


class UsageError(KoopscopeError, ValueError):
    """An argument or option that cannot be used, whatever the data."""

    code = "usage"
    exit_code = 2


class OutputExistsError(UsageError):
    """The place to write to holds something that must not be replaced unasked."""

    code = "output-exists"


class InvalidDataError(KoopscopeError, ValueError):
    """Base of the errors that lie in the input data."""

    code = "invalid-data"
    exit_code = 3


class TrajectoryError(InvalidDataError):
    """The input is not a recording of weights, or not a readable one."""

    code = "not-a-trajectory"


class StepError(InvalidDataError):
    """Steps that do not increase, or are not evenly spaced where the lag needs it."""

    code = "uneven-steps"


class WindowError(InvalidDataError):
    """``t1``, ``t2``, ``lag`` or ``lead`` that the recording cannot serve."""

    code = "window"


class NonFiniteError(InvalidDataError):
    """NaN, infinity or numbers beyond 1e150 in rows that are used; names a tensor and its first such step."""

    code = "non-finite"


class LayoutError(InvalidDataError):
    """A partition needs to know which axis of a tensor counts its output units, and nothing says so."""

    code = "layout"


class PartitionError(UsageError):
    """A partition that cannot be read, or does not fit the tensors of this recording."""

    code = "partition"


class MemoryBudgetError(InvalidDataError):
    """The work asked for needs more memory than the budget allows."""

    code = "memory"


class LossError(InvalidDataError):
    """A loss callable that fails or disagrees with the recorded loss."""

    code = "loss"


class RecordingError(KoopscopeError):
    """Weights that could not be written: a full disk, a place that is not writable, or a second writer."""

    code = "recording"


class ResultError(InvalidDataError):
    """A stored result that is missing, damaged, or of another kind than the one asked for."""

    code = "result"
