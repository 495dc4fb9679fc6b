"""All pages together: links lead somewhere, examples can be read, the index names every page.

The functions here also read pages for the tests of single ones.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md")])
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


@cache
def page(name: str) -> str:
    """A page of `docs/`."""
    return (DOCS / name).read_text(encoding="utf-8")


def prose(text: str) -> str:
    """The text without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def section(text: str, title: str) -> str:
    """What stands under the heading `title` (with its `#`s), up to the next of its level or above."""
    level, fenced = len(title) - len(title.lstrip("#")), False
    found: list[str] | None = None
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith("```")
        if found is not None and not fenced and re.match(rf"#{{1,{level}}} ", line):
            break
        if found is not None:
            found.append(line)
        elif line == title and not fenced:
            found = []
    assert found is not None, f"no heading {title!r}"
    return "\n".join([*found, ""])


def table(text: str, *columns: str) -> list[list[str]]:
    """The rows of the first table whose heading begins with these columns."""
    lines = iter(prose(text).splitlines())
    for line in lines:
        heading = cells(line)
        if heading[: len(columns)] == list(columns) and set("".join(cells(next(lines)))) == {"-"}:
            rows = []
            for row in lines:
                if not row.startswith("|"):
                    break
                rows.append(cells(row))
                assert len(rows[-1]) == len(heading), row
            return rows
    raise AssertionError(f"no table with the columns {columns}")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split(" | ")]


def codes(text: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", text)


def anchors(text: str) -> set[str]:
    """The anchors that readers of Markdown give to its headings."""
    titles = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links() -> list[tuple[str, str]]:
    """Each page and what it links to, addresses of other sites left out."""
    found = []
    for path in PAGES:
        text = re.sub(r"`[^`\n]*`", "", prose(path.read_text(encoding="utf-8")))
        targets = ["".join(groups) for groups in LINK.findall(text)]
        found += [(path.relative_to(ROOT).as_posix(), to) for to in targets if not re.match(r"[a-z]+:", to)]
    return found


@pytest.mark.parametrize(("name", "target"), sorted(set(links())))
def test_a_link_leads_to_a_file_and_a_heading_that_are_there(name: str, target: str) -> None:
    path, _, anchor = target.partition("#")
    file = (ROOT / name).parent / path if path else ROOT / name
    assert file.exists(), target
    if anchor:
        assert anchor in anchors(file.read_text(encoding="utf-8")), target


def test_pages_have_links() -> None:
    assert len(links()) > 20


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_json_example_can_be_read(path: Path) -> None:
    for block in blocks(path.read_text(encoding="utf-8"), "json"):
        json.loads(block)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_fenced_block_is_closed_and_says_its_language(path: Path) -> None:
    fences = re.findall(r"^ *```(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert all(fences[::2]), "the language stands behind the opening fence"
    assert not any(fences[1::2])
    assert len(fences) % 2 == 0


def test_the_index_names_every_page() -> None:
    listed = [re.findall(r"\((.*)\)", row[0]) for row in table(page("README.md"), "page")]
    assert sorted(name for names in listed for name in names) == [
        path.name for path in sorted(DOCS.glob("*.md")) if path.name != "README.md"
    ]
