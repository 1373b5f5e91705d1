"""The README and the pages under docs agree with the code, and their links lead somewhere."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench.costs import GIB, PRICES, archive_dollars, archive_table, billed_gib, idle_dollars, idle_table, table
from bench.durations import DEFAULT, load_measured
from framegate import problems
from framegate.rest.http import INLINE_LIMIT
from framegate.rest.problem_documents import STATUS
from infra.config import config_keys, config_table
from infra.gateway_problems import GATEWAY_PROBLEMS
from infra.regions import FIPS_REGIONS, HEALTHIMAGING_REGIONS

PROJECT = Path(__file__).parent.parent.parent
README = (PROJECT / "README.md").read_text()
API = (PROJECT / "docs" / "api.md").read_text()
CONFIGURATION = (PROJECT / "docs" / "configuration.md").read_text()
COSTS = (PROJECT / "docs" / "costs.md").read_text()
PAGES = {
    str(path.relative_to(PROJECT)): path.read_text()
    for path in (*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md"), PROJECT / "tests/fixtures/events/README.md")
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


def test_every_file_that_the_architecture_names_exists():
    page = PAGES["docs/architecture.md"]
    rooms = PROJECT / "lambda_src" / "framegate"
    roots = [PROJECT, PROJECT / "tests", rooms, rooms / "delivery"]
    # A prefix of the bucket looks like a folder.
    named = set(re.findall(r"`([\w./]+(?:\.py|\.md|\.json|/))`", page)) - {"export-requests/"}

    assert len(named) > 50
    assert [name for name in sorted(named) if not any((root / name).exists() for root in roots)] == []


def test_picture_of_the_readme_is_small():
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)

    assert 10_000 < (PROJECT / picture).stat().st_size < 150_000


def test_configuration_table_is_that_of_the_code():
    assert config_table() in CONFIGURATION


def test_table_of_costs_is_that_of_the_model():
    assert table(load_measured()) in COSTS


@pytest.mark.parametrize(("auth", "dollars"), [("iam", "$12.09"), ("cognito", "$12.09"), ("jwt", "$14.07")])
def test_price_of_an_idle_deployment_is_that_of_the_model(auth, dollars):
    config = replace(DEFAULT, auth=auth)
    (sentence,) = re.findall(r"^An idle deployment costs .+?\n\n", COSTS, re.MULTILINE | re.DOTALL)

    assert f"${sum(idle_dollars(config).values()):.2f}" == dollars
    assert re.search(rf"{re.escape(dollars)}[^$]*`auth={auth}`", sentence)


def test_parts_of_that_price_are_those_of_the_model():
    firewall = idle_dollars(replace(DEFAULT, waf=True))["AWS WAF"]

    assert idle_table() in COSTS
    assert f"(`waf=true`) adds ${firewall:.0f} a month" in COSTS


def test_more_memory_and_a_firewall_make_an_idle_deployment_dearer():
    plain, larger, guarded = (
        sum(idle_dollars(replace(DEFAULT, **keys)).values()) for keys in ({}, {"memory_mb": 3538}, {"waf": True})
    )

    # Lambda charges a snapshot of 1769 MB $0.0000015046 a GB and second.
    assert larger - plain == pytest.approx(1769 / 1024 * 730 * 3600 * 0.0000015046)
    assert guarded - plain == pytest.approx(8)


def test_archived_image_sets_that_are_read_cost_the_difference_of_the_tiers():
    assert archive_dollars(10_000_000) == pytest.approx(1e6 * 10e6 / GIB * 0.099)
    assert f"${1024 * (PRICES.frequent_gib_month - PRICES.archive_gib_month):.2f} for a TB" in COSTS
    assert f"${PRICES.frequent_gib_month - PRICES.archive_gib_month:.3f} a GB more" in COSTS


def test_small_image_sets_are_charged_as_5_mb():
    assert billed_gib(185_000, 1) == billed_gib(2_500_000, 2) == 5e6 / GIB
    assert archive_dollars(185_000, frames=1) == pytest.approx(1e6 * 5e6 / GIB * 0.099)
    assert archive_dollars(185_000, frames=500) < archive_dollars(185_000, frames=1)


def test_table_of_archived_image_sets_is_that_of_the_model():
    assert archive_table() in COSTS


def test_limits_name_the_regions_of_health_imaging():
    (limit,) = re.findall(r"^- HealthImaging is in .+?(?=^- )", README, re.MULTILINE | re.DOTALL)

    assert dict(re.findall(r"([a-z]{2}-[a-z]+-\d) \(([^)]+)\)", limit)) == HEALTHIMAGING_REGIONS
    assert tuple(re.findall(r"[a-z]{2}-[a-z]+-\d", limit.partition("FIPS")[2])) == FIPS_REGIONS


def test_every_key_that_the_pages_set_is_a_key_of_the_configuration():
    keys = {key for page in PAGES.values() for key in re.findall(r"-c ([a-z_]+)=", page)}

    assert len(keys) > 10
    assert keys <= {*config_keys(), "key"}


def test_inline_limit_is_that_of_the_code():
    named = {page: set(re.findall(r"4,7\d\d,\d\d\d", text)) for page, text in PAGES.items()}

    assert {page for page in named if named[page]} >= {"README.md", "docs/api.md", "docs/glossary.md"}
    assert set().union(*named.values()) == {f"{INLINE_LIMIT:,}"}


def test_every_problem_stands_in_the_table_with_its_status():
    rows = re.findall(r"^\| (\d{3}) \| (`[^|]+`) \|", API, re.MULTILINE)
    documented = {(int(status), slug) for status, slugs in rows for slug in re.findall(r"`([a-z-]+)`", slugs)}
    assert documented == {(int(status), problem.slug) for problem, status in STATUS.items()}


def test_every_problem_of_api_gateway_is_named():
    (paragraph,) = re.findall(r"^API Gateway refuses some .*?\n\n", API, re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"`([a-z-]+)`", paragraph)) - {"status"}
    assert named == {problem.slug for problem in GATEWAY_PROBLEMS}


def test_every_problem_of_a_request_has_a_status():
    def concrete(base):
        for each in set(base.__subclasses__()) - {problems.ExportProblem}:
            yield from concrete(each)
            if hasattr(each, "slug"):
                yield each

    assert set(concrete(problems.Problem)) == set(STATUS)


def test_examples_have_query_parameters_in_the_order_in_which_old_curl_signs_them():
    project = Path(__file__).parents[2]
    texts = [
        path.read_text() for path in (*project.glob("*.md"), *project.glob("docs/**/*.md"), *project.glob("local/*.py"))
    ]
    queries = [query for text in texts for query in re.findall(r"\?([\w.-]+=[^\s\"'`)&]*(?:&[^\s\"'`)]*)+)", text)]
    names = [[part.partition("=")[0] for part in query.split("&")] for query in queries]
    assert len(names) >= 3
    for each in names:
        assert each == sorted(each)
