"""The decision function: what it is asked, what its answers mean, and what its failures do."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framegate.access.decision import (
    MAX_ANSWER_BYTES,
    MAX_REASON_CHARS,
    Action,
    Decision,
    DecisionFunction,
    Question,
)
from framegate.access.principal import Principal
from framegate.identifiers import ImageSetRef
from framegate.observability import metrics
from framegate.problems import AuthorizationUnavailable
from framegate.time_budget import TimeBudget
from tests.unit.scripted_server import Reply, ScriptedServer
from tests.unit.sessions import new_session

ARN = "arn:aws:lambda:us-east-1:123456789012:function:image-access:live"
IMAGE_SET = ImageSetRef("d" * 32, "5" * 32)
QUESTION = Question(Principal("somebody", "https://login.example.org"), IMAGE_SET, "1.2.3", Action.READ_FRAME)
ALLOW = {"allow": True}


class Clock:
    now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def server(monkeypatch):
    with ScriptedServer(lambda _: said(ALLOW)) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", running.url)
        yield running


@pytest.fixture
def function(server, clock):
    yield DecisionFunction(new_session(), ARN, 60, clock)
    metrics.clear_metrics()


def said(document, status=200, **headers):
    return Reply(status, headers, json.dumps(document).encode())


def decide(function, question=QUESTION, seconds=10):
    return function.decide(question, TimeBudget(seconds))


def failure(function, seconds=10):
    with pytest.raises(AuthorizationUnavailable) as raised:
        decide(function, seconds=seconds)
    return raised.value.evidence


def test_function_is_asked_about_the_caller_the_image_set_and_the_action(function, server):
    decide(function)
    (sent,) = server.requests
    assert sent.path.endswith(
        "/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Aimage-access%3Alive/invocations"
    )
    assert json.loads(sent.body) == {
        "principal": "somebody",
        "issuer": "https://login.example.org",
        "datastoreId": "d" * 32,
        "imageSetId": "5" * 32,
        "studyInstanceUID": "1.2.3",
        "action": "ReadFrame",
    }


@pytest.mark.parametrize(
    ("answer", "decision"),
    [
        ({"allow": True}, Decision(True)),
        ({"allow": False}, Decision(False)),
        ({"allow": False, "reason": "not on the ward"}, Decision(False, "not on the ward")),
        ({"allow": True, "reason": None, "cacheSeconds": None}, Decision(True)),
        ({"allow": True, "reason": "break-glass", "cacheSeconds": 0, "other": 1}, Decision(True, "break-glass")),
        ({"allow": True, "reason": "two\nlines\x1b[31m\u2028 end "}, Decision(True, "two lines [31m end")),
        ({"allow": True, "reason": "x" * 10_000}, Decision(True, "x" * MAX_REASON_CHARS)),
        ({"allow": True, "reason": "Prüfung"}, Decision(True, "Prüfung")),
    ],
)
def test_answer_allows_or_denies_with_a_reason_on_one_line(function, server, answer, decision):
    server.reply = lambda _: said(answer)
    assert decide(function) == decision


@pytest.mark.parametrize("lead", ["no access to ", "x" * (MAX_REASON_CHARS - 3)])
def test_reason_never_contains_the_study_uid(function, server, lead):
    server.reply = lambda _: said({"allow": False, "reason": f"{lead}{QUESTION.study_uid}, {QUESTION.study_uid}"})
    reason = decide(function).reason
    assert reason.startswith(lead)
    assert "1.2" not in reason


@pytest.mark.parametrize(
    "answer",
    [
        *(None, [], "allow", True, 1, {}, {"allow": "true"}, {"allow": 1}, {"allow": None}, {"Allow": True}),
        *({"allow": True, "reason": each} for each in (1, ["break-glass"], {}, False)),
        *({"allow": True, "cacheSeconds": each} for each in (-1, "60", True, [60], float("nan"))),
    ],
)
def test_invalid_answer_is_a_failure(function, server, answer):
    server.reply = lambda _: said(answer)
    assert failure(function)["authorization"] == "invalid-answer"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 9_000])
def test_answer_that_is_not_json_is_a_failure(function, server, body):
    server.reply = lambda _: Reply(200, {}, body)
    assert failure(function)["authorization"] == "invalid-answer"


def test_answer_that_is_too_large_is_a_failure(function, server):
    server.reply = lambda _: Reply(200, {}, b'{"allow": true}' + b" " * MAX_ANSWER_BYTES)
    assert failure(function)["authorization"] == "too-large"


def test_error_of_the_function_is_a_failure_even_if_its_answer_allows(function, server):
    server.reply = lambda _: Reply(200, {"X-Amz-Function-Error": "Unhandled"}, b'{"allow": true}')
    assert failure(function) == {"authorization": "function-error"}


@pytest.mark.parametrize(("status", "calls"), [(403, 1), (404, 1), (429, 2), (500, 2), (502, 2), (202, 2), (302, 2)])
def test_error_of_lambda_is_a_failure_after_at_most_one_retry(function, server, status, calls):
    server.reply = lambda _: Reply(status, {"x-amzn-ErrorType": "SomeException:http://x"}, b'{"allow": true}')
    evidence = failure(function)
    assert (evidence["upstream_status"], evidence["upstream_error"]) == (status, "SomeException")
    assert len(server.requests) == calls


def test_temporary_error_of_lambda_is_retried(function, server):
    replies = iter([Reply(503), said(ALLOW)])
    server.reply = lambda _: next(replies)
    assert decide(function) == Decision(True)


def test_silent_function_is_a_failure_within_the_time_budget(function, server):
    server.reply = lambda _: Reply(silent=True)
    started = time.monotonic()
    assert failure(function, seconds=0.5)["authorization"] == "upstream-timeout"
    assert time.monotonic() - started < 2


def test_function_that_cannot_be_reached_is_a_failure(function, server, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", "http://127.0.0.1:9")
    unreachable = DecisionFunction(new_session(), ARN, 60)
    assert failure(unreachable)["authorization"] == "upstream-failed"


def test_decision_is_cached_for_the_configured_time(function, server, clock):
    for _ in range(3):
        decide(function)
    assert len(server.requests) == 1
    clock.now += 59.9
    decide(function)
    assert len(server.requests) == 1
    clock.now += 0.1
    decide(function)
    assert len(server.requests) == 2


def test_denial_is_cached(function, server):
    server.reply = lambda _: said({"allow": False})
    assert [decide(function).is_allowed for _ in range(2)] == [False, False]
    assert len(server.requests) == 1


@pytest.mark.parametrize(("cache_seconds", "asked_after"), [(0, 0), (10, 10), (0.5, 0.5), (3600, 60), (1e300, 60)])
def test_function_can_shorten_the_time_but_not_extend_it(function, server, clock, cache_seconds, asked_after):
    server.reply = lambda _: said({"allow": True, "cacheSeconds": cache_seconds})
    decide(function)
    clock.now += asked_after - 0.25
    decide(function)
    assert len(server.requests) == (1 if asked_after else 2)
    clock.now += 0.25
    decide(function)
    assert len(server.requests) == (2 if asked_after else 3)


@pytest.mark.parametrize(
    "other",
    [
        replace(QUESTION, principal=Principal("another", "https://login.example.org")),
        replace(QUESTION, principal=Principal("somebody", "https://other.example.org")),
        replace(QUESTION, image_set=ImageSetRef("d" * 32, "6" * 32)),
        replace(QUESTION, image_set=ImageSetRef("e" * 32, "5" * 32)),
        replace(QUESTION, study_uid="1.2.4"),
        replace(QUESTION, study_uid=None),
        replace(QUESTION, action=Action.LIST_FRAMES),
    ],
)
def test_decision_is_for_one_question_alone(function, server, other):
    decide(function)
    server.reply = lambda _: said({"allow": False})
    assert not decide(function, other).is_allowed
    assert decide(function).is_allowed


def test_failure_is_not_cached_and_does_not_outlive_a_decision(function, server, clock):
    decide(function)
    clock.now += 60
    server.reply = lambda _: Reply(404)
    failure(function)
    server.reply = lambda _: said({"allow": False})
    assert not decide(function).is_allowed


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(
    answer=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["allow", "reason", "cacheSeconds"]) | st.text(), inner, max_size=3)
        ),
        max_leaves=6,
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_answer_is_a_decision_or_a_failure(server, answer):
    server.reply = lambda _: Reply(200, {}, answer)
    try:
        decision = decide(DecisionFunction(new_session(), ARN, 0))
    except AuthorizationUnavailable:
        return
    finally:
        metrics.clear_metrics()
    assert decision.is_allowed is json.loads(answer)["allow"]
    assert decision.reason.isprintable()
    assert len(decision.reason) <= MAX_REASON_CHARS
