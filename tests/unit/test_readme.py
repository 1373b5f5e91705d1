"""What the README says of the project is so."""

from __future__ import annotations

import re
from pathlib import Path

from bench.costs import table
from bench.durations import load_measured
from framegate import problems
from framegate.rest.http import INLINE_LIMIT
from framegate.rest.problem_documents import STATUS
from infra.config import config_table
from infra.gateway_problems import GATEWAY_PROBLEMS

README = (Path(__file__).parent.parent.parent / "README.md").read_text()


def test_configuration_table_is_that_of_the_code():
    assert config_table() in README


def test_table_of_costs_is_that_of_the_model():
    assert table(load_measured()) in README


def test_inline_limit_is_that_of_the_code():
    assert set(re.findall(r"4,\d\d\d,\d\d\d", README)) == {f"{INLINE_LIMIT:,}"}


def test_every_problem_stands_in_the_table_with_its_status():
    rows = re.findall(r"^\| (\d{3}) \| (`[^|]+`) \|", README, re.MULTILINE)
    documented = {(int(status), slug) for status, slugs in rows for slug in re.findall(r"`([a-z-]+)`", slugs)}
    assert documented == {(int(status), problem.slug) for problem, status in STATUS.items()}


def test_every_problem_of_api_gateway_is_named():
    (paragraph,) = re.findall(r"^API Gateway refuses some .*?\n\n", README, re.MULTILINE | re.DOTALL)
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
