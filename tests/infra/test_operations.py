"""The runbook matches the code: fields and messages of logs, outputs of the stack, keys of the configuration."""

from __future__ import annotations

import re

import pytest

from bench.scaling import recovery
from infra.api.gateway_problems import GATEWAY_PROBLEMS
from infra.api.rest_api import ACCESS_LOG_FIELDS
from infra.config import config_keys
from infra.operations.key_watch import WATCHED_CALLS
from infra.operations.unusual_reads import DISTINCT_IMAGE_SETS, QUERY
from tests.infra.project import PROJECT

RUNBOOK = (PROJECT / "docs" / "operations.md").read_text()
QUERIES = re.findall(r"^```\n((?:filter|fields) .+?)```", RUNBOOK, re.MULTILINE | re.DOTALL)

# The fields that Powertools writes in every line, and the names of the queries' results.
WRITTEN_BY_POWERTOOLS = {"level", "message", "correlation_id"}
RESULTS = {"requests", "refused", "p99_ms", "largest", "image_sets"}
KEYWORDS = {"filter", "fields", "stats", "sort", "desc", "by", "and", "or", "as", "like", "count", "pct", "max", "bin"}
FUNCTIONS = {"ispresent", "count_distinct"}


def fields_of(query):
    without_texts = re.sub(r'"[^"]*"|/[^/]*/|@\w+', "", query)
    return set(re.findall(r"[A-Za-z_][\w.]*", without_texts)) - KEYWORDS - FUNCTIONS - RESULTS


def code():
    return "\n".join(path.read_text() for path in (PROJECT / "lambda_src" / "framegate").rglob("*.py"))


@pytest.mark.parametrize("query", QUERIES)
def test_queries_use_fields_that_are_logged(query):
    keys, keywords = re.findall(r'"(\w+)":', code()), re.findall(r"[(, ](\w+)=", code())
    asked_for = {name.partition(".")[0] for name in fields_of(query)}

    assert asked_for
    assert asked_for <= {*ACCESS_LOG_FIELDS, *WRITTEN_BY_POWERTOOLS, *keys, *keywords}


def test_queries_use_messages_that_are_logged():
    wanted = {message for query in QUERIES for message in re.findall(r'message = "([^"]+)"', query)}

    assert wanted == {"request answered", "export failed", "pixel mismatch"}
    assert all(f'"{message}"' in code() for message in wanted)


def test_runbook_lists_every_log_group(template):
    groups = template.find_resources("AWS::Logs::LogGroup")
    named = set(re.findall(r"^\| `(\S+)` \|", RUNBOOK, re.MULTILINE))
    ends = {name.rpartition("/")[2].removeprefix("Framegate-") for name in named if "Framegate-" in name}

    assert len(ends) == len(groups)
    for end in ends:
        assert [name for name in groups if name.startswith(end.removesuffix("Logs"))], end


def test_runbook_names_the_outputs_of_the_stack(template):
    paragraph = RUNBOOK[RUNBOOK.index("The outputs of the stack") : RUNBOOK.index("Alarms go to a topic")]

    assert {"ApiUrl", *re.findall(r"`(\w+)`", paragraph)} == template.to_json()["Outputs"].keys()


def test_runbook_names_only_existing_configuration_keys():
    settings = set(re.findall(r"`([a-z]+_[a-z_]+)(?:=\S+)?`", RUNBOOK))
    fields = {"upstream_error", "upstream_request_id", "upstream_failed", "correlation_id", "p99_ms"}

    assert settings - fields <= config_keys().keys()


def test_recovery_times_are_those_of_the_export_model():
    assert f"<!-- recovery -->\n{recovery()}\n" in RUNBOOK


def test_query_for_unusual_reads_is_that_of_the_alarm():
    (query,) = (each for each in QUERIES if "count_distinct" in each)
    count, _, by = DISTINCT_IMAGE_SETS.partition(" by ")

    assert query.startswith(f"{QUERY}\n| stats {count} as image_sets by {by}\n")


@pytest.mark.parametrize("call", WATCHED_CALLS)
def test_runbook_says_what_to_do_after_each_watched_call_on_the_key(call):
    section = RUNBOOK.partition("### Changes of the key\n")[2].partition("\n## ")[0]

    assert f"| `{call}` | " in section


def test_forbidden_requests_are_explained_for_every_kind_of_403_that_the_gateway_sends():
    section = RUNBOOK.partition("### Forbidden requests\n")[2].partition("\n### ")[0]
    kinds = {each.response_type for each in GATEWAY_PROBLEMS if each.status == 403}

    # The API uses no API keys.
    assert {kind for kind in kinds if f"`{kind}`" not in section} == {"INVALID_API_KEY"}
