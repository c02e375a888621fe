"""The reference is what the code gives, and links in the documentation lead somewhere."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]


def generator():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "reference" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = generator()


@pytest.mark.parametrize("name", list(GENERATOR.PAGES))
def test_reference_page_is_what_the_code_gives(name):
    written = (DOCS / "reference" / name).read_text()
    assert written == GENERATOR.page(name), "run: python docs/reference/generate.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_readme_stays_short_and_opens_with_the_two_commands():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    opening = "\n".join(lines[:8])
    assert "make demo" in opening
    assert "make test" in opening


def test_commands_named_in_the_documentation_exist():
    import typer.main

    from shipway.cli.main import app

    known = set(typer.main.get_command(app).commands)
    roles = {"control", "gateway", "replica"}
    for page in PAGES:
        blocks = re.findall(r"```(?:bash|console)\n(.*?)```", page.read_text(), re.DOTALL)
        for block in blocks:
            for name in re.findall(r"^(?:\$ )?shipway ([a-z]+)", block, re.MULTILINE):
                assert name in known | roles, f"{page.name}: {name}"
