"""Problems carry what happened; each edge words it for its readers."""

from __future__ import annotations

import inspect
import json
import re

import pytest

from framegate import problems
from framegate.export.manifest import ExportedFrame
from framegate.healthimaging.image_set_metadata import FrameEntry
from framegate.problems import Problem
from framegate.rest.problem_documents import ADVICE, STATUS, problem_response

VALUES = {
    "description": "The line is not JSON.",
    "name": "imageSetId",
    "templates": ["/a", "/b"],
    "allowed": ["GET", "HEAD"],
    "available": ["image/jph", "application/json"],
    "field": "If-Match",
    "size_bytes": 5_000_000,
    "max_bytes": 4_000_000,
    "service": "S3",
    "failure": "broke the connection",
    "finding": "The copy is wrong.",
    "reason": "The frame has another size than its attributes say",
    "missing": 3,
    "earlier_line": 7,
}


def concrete(base=Problem):
    for each in base.__subclasses__():
        yield from concrete(each)
        if hasattr(each, "slug"):
            yield each


ALL = sorted(set(concrete()), key=lambda each: each.__name__)


def example(kind):
    parameters = inspect.signature(kind).parameters
    return kind(**{name: VALUES[name] for name in parameters if name != "evidence"})


@pytest.mark.parametrize("kind", ALL)
def test_description_consists_of_sentences(kind):
    description = example(kind).description

    assert re.fullmatch(r"\S.*[.]", description)
    assert str(example(kind)) == description


@pytest.mark.parametrize("kind", ALL)
def test_description_names_nothing_that_only_an_http_client_has(kind):
    assert not re.search(r"Retry-After|delivery=|request id|[Tt]ry again", example(kind).description)


@pytest.mark.parametrize("kind", sorted(STATUS, key=lambda each: each.__name__))
def test_http_detail_is_the_description_and_what_the_client_can_do(kind):
    problem = example(kind)
    detail = json.loads(problem_response(problem, "id").body)["detail"]

    assert detail == " ".join(filter(None, [problem.description, ADVICE.get(kind)]))


def test_advice_is_for_problems_with_a_status():
    assert set(ADVICE) <= set(STATUS)


@pytest.mark.parametrize("kind", [problems.Throttled, problems.UpstreamTimeout, problems.AccessDenied])
def test_manifest_has_no_advice_for_http_clients(kind):
    frame = ExportedFrame(FrameEntry("f" * 32, None, None), "key")
    frame.fail(example(kind))
    line = frame.to_line()

    assert (line["outcome"], line["detail"]) == (kind.slug, example(kind).description)


def test_evidence_is_given_at_construction_and_is_not_worded():
    evidence = {"upstream_status": 503, "upstream_error": "SlowDown"}
    problem = problems.UpstreamFailed("S3", "rejected the call", evidence=evidence)
    evidence.clear()

    assert problem.evidence == {"upstream_status": 503, "upstream_error": "SlowDown"}
    assert "SlowDown" not in problem_response(problem, "id").body
    assert problems.UpstreamFailed("S3", "rejected the call").evidence == {}


def test_hierarchy_at_the_top_of_the_module_is_the_real_one():
    def tree(base, indent=""):
        children = base.__subclasses__()
        for child in children:
            last = child is children[-1]
            yield f"{indent}{'└' if last else '├'}── {child.__name__}"
            yield from tree(child, indent + ("    " if last else "│   "))

    drawn = re.findall(r"^ +((?:│   |    )*[├└]── \w+)$", inspect.cleandoc(problems.__doc__), re.MULTILINE)
    assert drawn == list(tree(Problem))
