"""Asks the deployment's decision function whether a caller may read an image set. Any failure denies access."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote

from aws_lambda_powertools.metrics import MetricUnit
from botocore.auth import SigV4Auth

from framegate.aws.endpoints import endpoint_url
from framegate.aws.errors import is_transient, refusal
from framegate.aws.retries import retry
from framegate.aws.signed_http import SignedHttp, transport_problems
from framegate.observability import Metric, metrics, subsegment
from framegate.problems import AuthorizationUnavailable, ServiceProblem, UpstreamTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.session import Session
    from urllib3.response import BaseHTTPResponse

    from framegate.access.principal import Principal
    from framegate.identifiers import ImageSetRef
    from framegate.settings import Settings
    from framegate.time_budget import TimeBudget

SERVICE = "Lambda"

API, API_VERSION = "lambda", "2015-03-31"
"""Service name and API version in botocore."""

MAX_DECISION_SECONDS = 5.0
"""Maximum time for a decision, retries included. A cold start of a function in Python or Node.js takes one or two."""

MAX_ATTEMPTS = 2
"""Maximum number of attempts at a call. The function may be called twice for one request, so it must be idempotent."""

MAX_ANSWER_BYTES = 16 * 1024
"""Maximum size of an answer."""

MAX_REASON_CHARS = 256
"""Maximum length of a reason in the record. A longer one is cut."""

REMOVED_UID = "(study UID)"
"""What a reason has in the place of the study UID."""

MAX_CACHED_DECISIONS = 4096
"""Maximum number of decisions that an execution environment caches."""


class Action(StrEnum):
    """What a caller wants to do with an image set."""

    READ_FRAME = "ReadFrame"
    LIST_FRAMES = "ListFrames"
    READ_METADATA = "ReadMetadata"
    SEARCH = "Search"


@dataclass(frozen=True, slots=True)
class Question:
    """What the decision function is asked.

    Attributes
    ----------
    principal : Principal
        Who calls.
    image_set : ImageSetRef
        The image set, with its data store.
    study_uid : str or None
        The study instance UID of the image set's latest version; None if it has none or does not exist.
    action : Action
        What the caller wants to do.
    """

    principal: Principal
    image_set: ImageSetRef
    study_uid: str | None
    action: Action

    def to_json(self) -> bytes:
        """Return the payload of the function."""
        return json.dumps(
            {
                "principal": self.principal.name,
                "issuer": self.principal.issuer,
                "datastoreId": self.image_set.datastore_id,
                "imageSetId": self.image_set.image_set_id,
                "studyInstanceUID": self.study_uid,
                "action": self.action.value,
            }
        ).encode()


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer of the decision function.

    Attributes
    ----------
    is_allowed : bool
        Whether the caller may read the image set.
    reason : str
        Why, for the audit record: printable, on one line and bounded; empty if the function gave none.
    """

    is_allowed: bool
    reason: str = ""


class DecisionFunction:
    """The decision function, with a cache of its answers.

    Parameters
    ----------
    session : botocore.session.Session
        Provides credentials and Region. ``AWS_ENDPOINT_URL_LAMBDA`` overrides the endpoint, as with the SDK.
    function_arn : str
        The ARN of the function, its version or its alias, in the session's Region.
    cache_seconds : int
        Seconds for which an answer is cached, unless the function asks for less.
    clock : callable
        Returns the time in seconds. A monotonic clock can stop while Lambda has the function frozen.
    """

    def __init__(
        self, session: Session, function_arn: str, cache_seconds: int, clock: Callable[[], float] = time.time
    ) -> None:
        region = session.get_config_variable("region")
        function = quote(function_arn, safe="")
        self._url = f"{endpoint_url(session, API, API_VERSION)}/{API_VERSION}/functions/{function}/invocations"
        self._http = SignedHttp(session, SERVICE, lambda each: SigV4Auth(each, API, region))
        self._cache_seconds = cache_seconds
        self._clock = clock
        self._cache: OrderedDict[Question, tuple[float, Decision]] = OrderedDict()

    @classmethod
    def of_settings(cls, session: Session, settings: Settings) -> DecisionFunction | None:
        """Return the decision function of a deployment; None if it has none."""
        if settings.authorization_function_arn is None:
            return None
        return cls(session, settings.authorization_function_arn, settings.authorization_cache_seconds)

    def decide(self, question: Question, budget: TimeBudget) -> Decision:
        """Return the cached answer, or ask the function.

        Parameters
        ----------
        question : Question
            The question. Answers are cached by all of it.
        budget : TimeBudget
            The time for it; `MAX_DECISION_SECONDS` are the most that is used.

        Raises
        ------
        AuthorizationUnavailable
            If the function cannot be called, fails, or gives an invalid answer in time. The failure is not cached.
        """
        now = self._clock()
        expires_at, cached = self._cache.get(question, (now, None))
        if cached is not None and now < expires_at:
            self._cache.move_to_end(question)
            return cached
        answer = self._ask(question.to_json(), budget.share(MAX_DECISION_SECONDS))
        decision, cache_seconds = _parsed(answer, question.study_uid)
        self._cache.pop(question, None)
        if (seconds := min(self._cache_seconds, cache_seconds)) > 0:
            self._cache[question] = self._clock() + seconds, decision
            if len(self._cache) > MAX_CACHED_DECISIONS:
                self._cache.popitem(last=False)
        return decision

    def _ask(self, payload: bytes, budget: TimeBudget) -> bytes:
        started = time.perf_counter()
        try:
            with subsegment("decision function"):
                return retry(
                    lambda: self._invoke(payload, budget),
                    budget,
                    attempts=MAX_ATTEMPTS,
                    is_transient=is_transient,
                    refresh_credentials=self._http.refresh_credentials,
                )
        except ServiceProblem as problem:
            raise AuthorizationUnavailable(evidence={"authorization": problem.slug, **problem.evidence}) from None
        finally:
            elapsed_ms = (time.perf_counter() - started) * 1000
            metrics.add_metric(Metric.AUTHORIZATION_LATENCY, MetricUnit.Milliseconds, elapsed_ms)

    def _invoke(self, payload: bytes, budget: TimeBudget) -> bytes:
        """Call the function once and return its answer.

        References
        ----------
        AWS Lambda API reference, ``Invoke``: ``X-Amz-Function-Error`` marks the answer of a function that failed.
        """
        response = self._http.send("POST", self._url, {}, payload, budget)
        try:
            with transport_problems(SERVICE):
                answer = _body(response, budget)
        finally:
            # A fully read response has returned its connection to the pool already.
            response.close()
        if response.status != HTTPStatus.OK:
            code = response.headers.get("x-amzn-ErrorType", "").partition(":")[0]
            raise refusal(SERVICE, "Invoke", response.status, code)
        if "X-Amz-Function-Error" in response.headers:
            raise AuthorizationUnavailable(evidence={"authorization": "function-error"})
        return answer


def _body(response: BaseHTTPResponse, budget: TimeBudget) -> bytes:
    content = b""
    # read1 returns whatever has arrived, so a body that trickles in cannot exceed the budget. read would wait for all.
    while piece := response.read1(MAX_ANSWER_BYTES):
        content += piece
        if len(content) > MAX_ANSWER_BYTES:
            raise AuthorizationUnavailable(evidence={"authorization": "too-large"})
        if budget.exhausted:
            raise UpstreamTimeout(SERVICE)
    return content


def _parsed(answer: bytes, study_uid: str | None) -> tuple[Decision, float]:
    """Return the decision, and the seconds for which the function lets it be cached.

    The record holds no DICOM attribute, so a reason that quotes the study UID of the question loses it.
    """
    try:
        document = json.loads(answer)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise _invalid("not-an-object")
    allow, reason, cache_seconds = (document.get(name) for name in ("allow", "reason", "cacheSeconds"))
    if not isinstance(allow, bool):
        raise _invalid("allow")
    if reason is not None and not isinstance(reason, str):
        raise _invalid("reason")
    if cache_seconds is None:
        cache_seconds = float("inf")
    elif isinstance(cache_seconds, bool) or not isinstance(cache_seconds, int | float) or not cache_seconds >= 0:
        raise _invalid("cacheSeconds")
    reason = reason or ""
    if study_uid:
        reason = reason.replace(study_uid, REMOVED_UID)
    return Decision(allow, _on_one_line(reason)), cache_seconds


def _invalid(member: str) -> AuthorizationUnavailable:
    return AuthorizationUnavailable(evidence={"authorization": "invalid-answer", "member": member})


def _on_one_line(text: str) -> str:
    """Replace characters that are not printable, such as line feeds, by spaces, and cut the text to its maximum."""
    printable = "".join(each if each.isprintable() else " " for each in text[: 4 * MAX_REASON_CHARS])
    return " ".join(printable.split())[:MAX_REASON_CHARS]
