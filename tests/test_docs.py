"""What the documentation says of the code is true of this tree."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("data/*.md")]


def tables():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["errors.md", "results.md"])
def test_tables__are_those_of_the_code(page):
    assert tables().rewritten(page) == (ROOT / "docs" / "reference" / page).read_text(), (
        "run python docs/tables.py"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links__lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith(("http", "#")):
            found = page.parent / target.split("#")[0]
            assert found.exists(), f"{page}: {target}"
            # The site holds docs/ alone; a link out of it is a warning there, and so an error.
            inside = found.resolve().is_relative_to(ROOT / "docs")
            assert inside or not page.is_relative_to(ROOT / "docs"), f"{page}: {target} leaves the site"


def test_readme__names_every_public_function_in_the_reference():
    import koopscope

    text = "".join(page.read_text() for page in PAGES)
    for name in koopscope.__all__:
        assert name in text, f"{name} is documented nowhere"
