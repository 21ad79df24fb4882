"""The suite itself: a file of tests that cannot be imported is no file without tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

OPTIONS = ["--doctest-modules", "--doctest-ignore-import-errors", "--import-mode=importlib"]


def outcome(folder, source):
    """Run one file of tests beside a copy of our own conftest; give the exit code and what was said."""
    shutil.copy(Path(__file__).with_name("conftest.py"), folder)
    (folder / "test_it.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *OPTIONS, "test_it.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout


def test_collection__a_file_that_cannot_be_imported_fails(tmp_path):
    code, said = outcome(tmp_path, "from math import no_such_name\n\n\ndef test_it():\n    pass\n")
    assert code == 2, said
    assert "test_it.py" in said


def test_collection__a_file_that_asks_for_a_missing_package_is_skipped(tmp_path):
    source = 'import pytest\n\npytest.importorskip("no_such_package")\n\n\ndef test_it():\n    pass\n'
    code, said = outcome(tmp_path, source + "\n\ndef test_other():\n    pass\n")
    assert code == 5, said
    assert "no_such_package" in said or "skipped" in said
