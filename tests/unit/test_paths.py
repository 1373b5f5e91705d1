"""A request is refused before anything else unless its path is exactly its route with the parameters filled in."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from framegate.problems import InvalidRequest
from framegate.rest.http import require_exact_path
from framegate.rest.routes import FRAME_ROUTE, GET_IMAGE_FRAME_ROUTE, INDEX_ROUTE, ROUTES
from tests.unit.conftest import SERVED, filled

D, S, F = SERVED, "5" * 32, "f" * 32
PARAMETERS = {
    "datastoreId": D,
    "imageSetId": S,
    "imageFrameId": F,
    "studyInstanceUID": "1.2.3",
    "seriesInstanceUID": "1.2.3.4",
    "instanceUID": "1.2.3.4.5",
    "frameList": "1,2",
    "bulkDataId": "d16bd7a5",
}
FRAME = f"/datastore/{D}/imageSet/{S}/imageFrame/{F}"
EXECUTE_API = "abcdef1234.execute-api.eu-west-1.amazonaws.com"
OWN_DOMAIN = "frames.example.org"


def event(path, route=FRAME_ROUTE, domain=EXECUTE_API, **parameters):
    return {
        "httpMethod": "GET",
        "resource": route,
        "path": path,
        "pathParameters": {**PARAMETERS, **parameters},
        "requestContext": {"requestId": "r", "domainName": domain, "path": f"/v1{path}", "stage": "v1"},
    }


@pytest.mark.parametrize("route", [route.template for route in ROUTES])
def test_exact_path_is_accepted(route):
    require_exact_path(event(filled(route, PARAMETERS), route))


# REST APIs pass the path on as it was sent, and its parameters decoded.
INEXACT = {
    "slash at the end": f"{FRAME}/",
    "two slashes at the end": f"{FRAME}//",
    "repeated slash at the start": f"/{FRAME}",
    "repeated slash": FRAME.replace("/imageSet", "//imageSet"),
    "encoded slash": FRAME.replace("/imageSet", "%2fimageSet"),
    "encoded letter of an id": FRAME.replace(F, f"%66{F[1:]}"),
    "encoded letter of the route": FRAME.replace("/imageSet", "/%69mageSet"),
    "encoded dot": FRAME.replace("/imageSet", "/%2e/imageSet"),
    "dot": FRAME.replace("/imageSet", "/./imageSet"),
    "dots": FRAME.replace("/imageSet", "/../imageSet"),
    "dots that lead back": f"/datastore/{'e' * 32}/../{D}/imageSet/{S}/imageFrame/{F}",
    "matrix parameter": f"{FRAME};v=1",
    "matrix parameter of a segment": FRAME.replace("/imageSet", ";v=1/imageSet"),
    "other case": FRAME.replace("imageSet", "imageset"),
    "backslash": FRAME.replace("/imageSet", "\\imageSet"),
    "space": f"{FRAME} ",
    "encoded space": f"{FRAME}%20",
    "null character": f"{FRAME}%00",
    "line feed": f"{FRAME}\n",
    "query in the path": f"{FRAME}?x",
    "fragment": f"{FRAME}#x",
    "other data store": FRAME.replace(D, "e" * 32),
    "other route": f"/datastore/{D}/imageSet/{S}/imageFrames",
    "stage before the path": f"/v1{FRAME}",
    "no slash at the start": FRAME[1:],
    "nothing": "",
    "slash alone": "/",
}


@pytest.mark.parametrize("domain", [EXECUTE_API, None])
@pytest.mark.parametrize("path", INEXACT.values(), ids=INEXACT)
def test_other_spelling_of_a_path_is_refused(path, domain):
    with pytest.raises(InvalidRequest, match="path"):
        require_exact_path(event(path, domain=domain))


@pytest.mark.parametrize("value", [f"{D}/imageSet/{S}", f"{D}%2fx", "%64", "/", "%"])
def test_parameter_with_a_slash_or_an_encoded_character_is_refused(value):
    with pytest.raises(InvalidRequest):
        require_exact_path(event(FRAME.replace(D, value), datastoreId=value))


@pytest.mark.parametrize("base", ["", "/framegate", "/imaging/v1", "/a-b_c.d"])
def test_custom_domain_name_may_map_the_api_below_a_base_path(base):
    require_exact_path(event(f"{base}{FRAME}", domain=OWN_DOMAIN))


@pytest.mark.parametrize(
    "path",
    [
        # At a custom domain name, this is the base path `v1`.
        *(path for path in INEXACT.values() if path != INEXACT["stage before the path"]),
        *(f"/frame%67ate{FRAME}", f"/../x{FRAME}", f"/x/{FRAME}", f"x{FRAME}"),
    ],
)
def test_other_spelling_is_refused_at_a_custom_domain_name(path):
    with pytest.raises(InvalidRequest):
        require_exact_path(event(path, domain=OWN_DOMAIN))


@given(
    path=st.text()
    | st.builds(lambda a, b, c: f"{a}{FRAME[:b]}{c}{FRAME[b:]}", st.text(), st.integers(0, 120), st.text())
)
def test_no_other_path_is_accepted(path):
    assume(path != FRAME)
    with pytest.raises(InvalidRequest):
        require_exact_path(event(path))


@pytest.mark.parametrize(
    ("route", "path"),
    [
        (FRAME_ROUTE, f"{FRAME}/"),
        (GET_IMAGE_FRAME_ROUTE, f"/datastore/{D}/imageSet/{S}//getImageFrame"),
        (INDEX_ROUTE, f"/datastore/{D}/imageSet%2F{S}/imageFrames"),
    ],
)
def test_inexact_path_answers_400_before_the_token_and_the_data_store_are_checked(
    settings, new_api, health_imaging, route, path
):
    api = new_api(settings=replace(settings, auth="jwt", datastore_ids=()))
    parameters = {name: PARAMETERS[name] for name in re.findall(r"\{(\w+)\}", route)}
    answer = api.answer({**event(path, route), "pathParameters": parameters}, 28_000)
    assert (answer["statusCode"], json.loads(answer["body"])["type"]) == (400, "urn:framegate:problem:invalid-request")
    assert path not in answer["body"]
    assert not health_imaging.calls
