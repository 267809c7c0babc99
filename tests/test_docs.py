"""The documents: an index that knows every page, short pages, links that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pipeline.project_copy import REPOSITORY

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
BESIDE = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"]
MOST_LINES = 200


def anchors(page: Path) -> set[str]:
    """What a link may name in a page, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_index_knows_every_page() -> None:
    listed = set(re.findall(r"\]\((\w+\.md)\)", (DOCS / "README.md").read_text()))
    assert listed == {page.name for page in PAGES} - {"README.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_are_short(page: Path) -> None:
    assert len(page.read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("page", [*PAGES, *BESIDE], ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)(#([^)]+))?\)", page.read_text())
    assert links
    for target, _, anchor in links:
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), target
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{target}#{anchor}"


def test_every_profile_that_a_help_text_names_exists() -> None:
    source = (REPOSITORY / "pipeline/cli/project_commands.py").read_text(encoding="utf-8")
    named = re.findall(r"gait profile (\w+)", source)
    assert named
    for name in named:
        assert (REPOSITORY / "profiles" / f"{name}.yaml").is_file(), name
