"""Numbers, tables and limits in the README and the pages under docs match the code."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench.costs import GIB, PRICES, archive_dollars, archive_table, billed_gib, idle_dollars, idle_table, table
from bench.durations import DEFAULT, load_measured
from framegate import problems
from framegate.healthimaging.regions import FIPS_REGIONS, REGIONS
from framegate.rest.http import INLINE_LIMIT
from framegate.rest.problem_documents import STATUS
from infra.api.gateway_problems import GATEWAY_PROBLEMS
from infra.config import config_keys, config_table

PROJECT = Path(__file__).parent.parent.parent
README = (PROJECT / "README.md").read_text()
API = (PROJECT / "docs" / "api.md").read_text()
CONFIGURATION = (PROJECT / "docs" / "configuration.md").read_text()
COSTS = (PROJECT / "docs" / "costs.md").read_text()
PAGES = {
    str(path.relative_to(PROJECT)): path.read_text()
    for path in (*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md"))
}


def test_configuration_table_matches_the_code():
    assert config_table() in CONFIGURATION


def test_cost_table_matches_the_model():
    assert table(load_measured()) in COSTS


@pytest.mark.parametrize(("auth", "dollars"), [("iam", "$13.16"), ("cognito", "$13.16"), ("jwt", "$15.13")])
def test_price_of_an_idle_deployment_matches_the_model(auth, dollars):
    config = replace(DEFAULT, auth=auth)
    (sentence,) = re.findall(r"^An idle deployment costs .+?\n\n", COSTS, re.MULTILINE | re.DOTALL)

    assert f"${sum(idle_dollars(config).values()):.2f}" == dollars
    assert re.search(rf"{re.escape(dollars)}[^$]*`auth={auth}`", sentence)


def test_table_of_idle_costs_matches_the_model():
    firewall = idle_dollars(replace(DEFAULT, waf=True))["AWS WAF"]

    assert idle_table() in COSTS
    assert f"(`waf=true`) adds ${firewall:.0f} a month" in COSTS


def test_more_memory_and_a_firewall_raise_the_price_of_an_idle_deployment():
    plain, larger, guarded = (
        sum(idle_dollars(replace(DEFAULT, **keys)).values()) for keys in ({}, {"memory_mb": 3538}, {"waf": True})
    )

    # Lambda charges a snapshot of 1769 MB $0.0000015046 a GB and second.
    assert larger - plain == pytest.approx(1769 / 1024 * 730 * 3600 * 0.0000015046)
    assert guarded - plain == pytest.approx(8)


def test_reading_archived_image_sets_costs_the_difference_between_the_tiers():
    assert archive_dollars(10_000_000) == pytest.approx(1e6 * 10e6 / GIB * 0.099)
    assert f"${1024 * (PRICES.frequent_gib_month - PRICES.archive_gib_month):.2f} for a TB" in COSTS
    assert f"${PRICES.frequent_gib_month - PRICES.archive_gib_month:.3f} a GB more" in COSTS


def test_small_image_sets_are_charged_as_5_mb():
    assert billed_gib(185_000, 1) == billed_gib(2_500_000, 2) == 5e6 / GIB
    assert archive_dollars(185_000, frames=1) == pytest.approx(1e6 * 5e6 / GIB * 0.099)
    assert archive_dollars(185_000, frames=500) < archive_dollars(185_000, frames=1)


def test_table_of_archived_image_sets_matches_the_model():
    assert archive_table() in COSTS


def test_limits_name_the_regions_of_health_imaging():
    (limit,) = re.findall(r"^- HealthImaging is in .+?(?=^- )", README, re.MULTILINE | re.DOTALL)
    limit = " ".join(limit.split())

    assert dict(re.findall(r"([a-z]{2}-[a-z]+-\d) \(([^)]+)\)", limit)) == REGIONS
    assert tuple(re.findall(r"[a-z]{2}-[a-z]+-\d", limit.partition("FIPS")[2])) == FIPS_REGIONS


def test_pages_set_only_existing_configuration_keys():
    keys = {key for page in PAGES.values() for key in re.findall(r"-c ([a-z_]+)=", page)}

    assert len(keys) > 10
    assert keys <= {*config_keys(), "key"}


def test_pages_state_the_inline_limit_of_the_code():
    named = {page: set(re.findall(r"4,7\d\d,\d\d\d", text)) for page, text in PAGES.items()}

    assert {page for page in named if named[page]} >= {"README.md", "docs/api.md", "docs/glossary.md"}
    assert set().union(*named.values()) == {f"{INLINE_LIMIT:,}"}


def test_api_page_lists_every_problem_with_its_status():
    rows = re.findall(r"^\| (\d{3}) \| (`[^|]+`) \|", API, re.MULTILINE)
    documented = {(int(status), slug) for status, slugs in rows for slug in re.findall(r"`([a-z-]+)`", slugs)}
    assert documented == {(int(status), problem.slug) for problem, status in STATUS.items()}


def test_api_page_names_every_problem_of_api_gateway():
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


def test_examples_have_query_parameters_in_alphabetical_order_for_old_curl():
    project = Path(__file__).parents[2]
    texts = [
        path.read_text() for path in (*project.glob("*.md"), *project.glob("docs/**/*.md"), *project.glob("local/*.py"))
    ]
    queries = [query for text in texts for query in re.findall(r"\?([\w.-]+=[^\s\"'`)&]*(?:&[^\s\"'`)]*)+)", text)]
    names = [[part.partition("=")[0] for part in query.split("&")] for query in queries]
    assert len(names) >= 3
    for each in names:
        assert each == sorted(each)
