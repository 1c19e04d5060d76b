"""Relative links and anchors in the repository's Markdown files lead somewhere."""

import re
from pathlib import Path

import pytest

from tests.house.sources import REPOSITORY, relative

FOLDERS = (".github", "benchmarks", "deploy", "docs", "envs", "glimpse", "serve", "tests")
MARKDOWN = sorted(
    [*REPOSITORY.glob("*.md"), *(path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.md"))]
)
_FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2 *$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]*`")
_INLINE = re.compile(r"\]\(([^)\s]+)[^)]*\)")
_REFERENCE = re.compile(r"^\[[^\]]+\]: *(\S+)", re.MULTILINE)


def links(text: str) -> list[str]:
    """The targets of a text's links and pictures, without those in code and those with a scheme."""
    text = _CODE.sub("", _FENCE.sub("", text))
    return [link for link in _INLINE.findall(text) + _REFERENCE.findall(text) if not re.match(r"[a-z]+:", link)]


def anchors(text: str) -> set[str]:
    """The anchors of a text's headings, formed as GitHub forms them."""
    found: list[str] = []
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", _FENCE.sub("", text), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        before = sum(re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", other) is not None for other in found)
        found.append(f"{anchor}-{before}" if before else anchor)
    return set(found)


def broken(file: Path) -> list[str]:
    """The relative links of a file whose target or anchor is missing."""
    found = []
    for link in links(file.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = file.parent / name if name else file
        in_markdown = anchor and target.suffix == ".md" and target.is_file()
        if not target.exists() or (in_markdown and anchor not in anchors(target.read_text(encoding="utf-8"))):
            found.append(link)
    return found


@pytest.mark.parametrize("file", MARKDOWN, ids=relative)
def test_relative_links_and_anchors_exist(file: Path) -> None:
    assert broken(file) == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Cost of `a` request\n\n```sh\n# no heading\n```\n## Twice\n## Twice\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md#cost-of-a-request) [b](other.md#twice-1) [c](#top) ![d](gone.png) [e](other.md#no-heading)\n"
        "[f](https://example.org/gone) `[g](code.md)`\n# Top\n\n[h]: missing.md\n"
    )
    assert broken(page) == ["gone.png", "other.md#no-heading", "missing.md"]
