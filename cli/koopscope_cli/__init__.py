"""The ``koopscope`` command: parse, call public functions of koopscope, print.

What lives here: one file a command, and what commands share (`options`, `summary`, `tables`, `verdicts`,
`progress`, `output_folder`, `stored_fit`, `loss_option`).

May import: the top level of `koopscope`, `koopscope.errors`, `koopscope.progress`, cyclopts and rich. No
module here imports numpy, xarray, numba or matplotlib when it is loaded: ``koopscope --help`` stays quick.
"""
