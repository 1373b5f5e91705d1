"""The runbook matches the code: fields and messages of logs, outputs of the stack, keys of the configuration."""

from __future__ import annotations

import re

import pytest

from bench.scaling import recovery
from framegate.access.audit import MEMBERS
from framegate.aws.presigning import REQUEST_ID_PARAMETER
from infra.api.gateway_problems import GATEWAY_PROBLEMS
from infra.api.rest_api import ACCESS_LOG_FIELDS, PRINCIPAL_FIELDS
from infra.config import config_keys
from infra.operations.key_watch import WATCHED_CALLS
from infra.operations.saved_queries import SAVED_QUERIES
from infra.operations.unusual_reads import DISTINCT_IMAGE_SETS, QUERY
from tests.infra.cloudformation import properties
from tests.infra.project import PROJECT

RUNBOOK = (PROJECT / "docs" / "operations.md").read_text()
QUERIES = re.findall(r"^```\n((?:filter|fields) .+?)```", RUNBOOK, re.MULTILINE | re.DOTALL)

# The fields that Powertools writes in every line, and the names of the queries' results.
WRITTEN_BY_POWERTOOLS = {"level", "message", "correlation_id"}
RESULTS = {"requests", "refused", "p99_ms", "largest", "images", "total_bytes", "image_sets", "first_at", "last_at"}
KEYWORDS = {"filter", "fields", "stats", "sort", "limit", "asc", "desc", "by", "and", "or", "as", "like", "bin"}
FUNCTIONS = {"count", "count_distinct", "ispresent", "max", "min", "pct", "sum"}
AUDIT_FIELDS = {*MEMBERS.values(), *ACCESS_LOG_FIELDS, *PRINCIPAL_FIELDS["jwt"], "audit"}


def fields_of(query):
    without_texts = re.sub(r'"[^"]*"|/[^/]*/|@\w+', "", query)
    # A function is a name before a parenthesis; anywhere else, the same name is a field.
    without_texts = re.sub(rf"\b(?:{'|'.join(FUNCTIONS)})\(", "(", without_texts)
    return set(re.findall(r"[A-Za-z_][\w.]*", without_texts)) - KEYWORDS - RESULTS


def code():
    return "\n".join(path.read_text() for path in (PROJECT / "lambda_src" / "framegate").rglob("*.py"))


@pytest.mark.parametrize("query", QUERIES)
def test_queries_use_fields_that_are_logged(query):
    keys, keywords = re.findall(r'"(\w+)":', code()), re.findall(r"[(, ](\w+)=", code())
    asked_for = {name.partition(".")[0] for name in fields_of(query)}

    assert asked_for
    assert asked_for <= {*AUDIT_FIELDS, *WRITTEN_BY_POWERTOOLS, *keys, *keywords}


@pytest.mark.parametrize("query", SAVED_QUERIES, ids=lambda query: query.name)
def test_saved_queries_use_fields_of_the_audit_records(query):
    assert fields_of(query.text) <= AUDIT_FIELDS


def test_runbook_shows_every_saved_query_under_its_name():
    shown = dict(re.findall(r"^### ([^\n]+)\n\n```\n(.+?)\n```", RUNBOOK, re.MULTILINE | re.DOTALL))

    assert {query.name: query.text for query in SAVED_QUERIES}.items() <= shown.items()


def test_stack_saves_every_query_over_the_logs_with_audit_records(template, resources):
    saved = {each["Name"]: each for each in properties(template, "AWS::Logs::QueryDefinition").values()}
    days = {name: group["RetentionInDays"] for name, group in resources("AWS::Logs::LogGroup").items()}

    assert {f"Framegate/{query.name}": query.text for query in SAVED_QUERIES} == {
        name: each["QueryString"] for name, each in saved.items()
    }
    for query in SAVED_QUERIES:
        groups = [group["Ref"] for group in saved[f"Framegate/{query.name}"]["LogGroupNames"]]
        expected = ["ApiFunction", "RenderFunction"]
        expected += ["RestApiAccessLogs"] if query.reads_access_log else []
        expected += ["ExportFunction", "RequestFunction"] if query.reads_exports else []
        assert len(groups) == len(expected)
        assert all(group.startswith(start) for group, start in zip(groups, expected, strict=True))
        assert set(groups) <= days.keys()


def test_documented_join_uses_what_the_url_carries_and_the_record_has():
    (query,) = re.findall(r"^```sql\n(.+?)```", RUNBOOK, re.MULTILINE | re.DOTALL)
    (pattern,) = re.findall(r"request_uri, '(.+?)'", query)
    uri = f"GET /frames/a/b/c?X-Amz-Expires=300&{REQUEST_ID_PARAMETER}=c6af9ac6-7b61-11e6-9a41-93e8deadbeef HTTP/1.1"

    assert re.search(pattern, uri)[1] == "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"
    assert set(re.findall(r"'\$\.(\w+)'", query)) <= AUDIT_FIELDS


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
    count, _, by = DISTINCT_IMAGE_SETS.partition(" by ")
    (query,) = (each for each in QUERIES if count in each)

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
