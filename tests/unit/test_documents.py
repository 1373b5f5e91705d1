"""The README and the pages under docs: size, tables of contents, links, and files that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.documents import table_names, with_tables

PROJECT = Path(__file__).parent.parent.parent
README = (PROJECT / "README.md").read_text()
PAGES = {
    str(path.relative_to(PROJECT)): path.read_text()
    for path in (
        *PROJECT.glob("*.md"),
        *(PROJECT / "docs").rglob("*.md"),
        *(PROJECT / "tests" / "fixtures").rglob("*.md"),
    )
}


def without_code(text):
    return re.sub(r"^ *```.*?^ *```|`[^`\n]+`", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text):
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_readme_is_short():
    assert len(README.encode()) <= 12_000


def test_readme_says_that_nothing_has_run_in_aws():
    assert "Nothing has run in AWS yet" in README


def test_readme_lists_every_page():
    pages = {f"docs/{path.name}" for path in (PROJECT / "docs").glob("*.md")} | {"CONTRIBUTING.md", "CHANGELOG.md"}

    assert pages <= set(re.findall(r"\]\(([^)#]+)\)", README))


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(PAGES[page])):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        linked = (PROJECT / page).parent / file if file else PROJECT / page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked.read_text()), target


@pytest.mark.parametrize("page", [page for page in PAGES if "\n- [" in PAGES[page].partition("\n## ")[0]])
def test_table_of_contents_lists_every_section_in_order(page):
    listed = re.findall(r"^- \[(.+)\]\(#.+\)$", PAGES[page].partition("\n## ")[0], re.MULTILINE)

    assert listed == re.findall(r"^## (.+)$", PAGES[page], re.MULTILINE)


def test_longer_pages_have_a_table_of_contents():
    lists = {"docs/licences.md", "docs/glossary.md", "docs/comparison.md"}
    pages = [page for page in PAGES if page.count("/") == 1 and page not in lists]

    assert len(pages) > 8
    assert [page for page in pages if "\n- [" not in PAGES[page].partition("\n## ")[0]] == []


def named_paths(text, pattern):
    return set(re.findall(rf"`({pattern})`", text))


def is_there(name):
    rooms = PROJECT / "lambda_src" / "framegate"
    return any((root / name).exists() for root in (PROJECT, PROJECT / "tests", rooms.parent, rooms, rooms / "delivery"))


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_every_module_that_a_page_names_exists(page):
    assert {name for name in named_paths(PAGES[page], r"[\w./]+\.py") if not is_there(name)} == set()


def test_every_folder_that_the_architecture_names_exists():
    # A prefix of the bucket looks like a folder.
    folders = named_paths(PAGES["docs/architecture.md"], r"[\w./]+/") - {"export-requests/"}

    assert len(folders) > 15
    assert {name for name in folders if not is_there(name)} == set()


def test_every_make_target_that_a_page_names_exists():
    targets = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    named = {name for text in PAGES.values() for name in re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE)}

    assert len(named) > 8
    assert named <= targets


def test_picture_of_the_readme_is_small():
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)

    assert 10_000 < (PROJECT / picture).stat().st_size < 150_000


def test_checklist_explains_every_line_of_make_smoke():
    modules = ("__main__", "api_checks", "dicomweb_checks")
    source = "".join((PROJECT / "smoke" / f"{name}.py").read_text() for name in modules)
    table = PAGES["docs/first-deployment.md"].partition("| line | what a pass shows |")[2].partition("\n\n")[0]
    lines = [
        *re.findall(r'^ +"([^"]+)": (?:platform|self)\.[a-z_]+,$', source, re.MULTILINE),
        *re.findall(r'report\.check\("([^"]+)"', source),
        *re.findall(r'"([^"]+)"', "".join(re.findall(r"of_exports = .+|find, access_log = .+", source))),
    ]

    assert len(lines) > 20
    assert {line for line in lines if f"`{line}`" not in table} == set()


GENERATED = {
    "configuration",
    "routes",
    "frames",
    "idle",
    "archive",
    "walls",
    "bursts",
    "indexes",
    "exports",
    "growth",
    "recovery",
    "thumbnails",
    "viewers",
    "vpc_endpoints",
    "shared_columns",
    "instance_columns",
    "frame_columns",
    "identifying_columns",
}


def test_pages_have_each_generated_table_once():
    assert sorted(name for page in PAGES.values() for name in table_names(page)) == sorted(GENERATED)


@pytest.mark.parametrize("page", [page for page in PAGES if table_names(PAGES[page])])
def test_generated_tables_replace_old_ones_and_nothing_else(page):
    new = {name: f"| {name} |\n| --- |\n| new |" for name in GENERATED}
    text, written = PAGES[page], with_tables(PAGES[page], new)

    assert all(f"<!-- {name} -->\n{new[name]}\n\n" in f"{written}\n" for name in table_names(text))
    assert re.findall(r"^(?!\|).*$", written, re.MULTILINE) == re.findall(r"^(?!\|).*$", text, re.MULTILINE)


def test_unknown_generated_table_is_an_error():
    with pytest.raises(KeyError, match="unknown"):
        with_tables("<!-- unknown -->\n| a |\n| --- |\n", {})
