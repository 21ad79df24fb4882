"""``python -m koopscope_cli``: the same as the ``koopscope`` command."""

from __future__ import annotations

import sys

from koopscope_cli.main import main

if __name__ == "__main__":
    sys.exit(main())
