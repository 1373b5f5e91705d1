"""The login page of `make viewer`, over HTTP as a browser uses it."""

from __future__ import annotations

import base64
import hashlib
import re
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
import requests

from local.token_issuer import DISCOVERY, TokenIssuer
from local.viewer.ohif import CALLBACK, CLIENT_ID
from local.viewer.site import ViewerSite

VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def issuer(tmp_path_factory):
    with TokenIssuer(tmp_path_factory.mktemp("issuer"), "/viewer") as running:
        yield running


@pytest.fixture(scope="module")
def key(issuer):
    return issuer.new_key("ES256", "viewer")


@pytest.fixture(scope="module")
def site(issuer, key, tmp_path_factory):
    application = tmp_path_factory.mktemp("ohif")
    (application / "index.html").write_text("the only page")
    (application / "app.js").write_text("the script")
    (application.parent / "secret").write_text("outside")
    with ViewerSite(application, issuer, key) as running:
        yield running


@pytest.fixture
def request_for(site):
    """The parameters of an authorization request, with changes."""
    return lambda **changed: {
        "client_id": CLIENT_ID,
        "redirect_uri": site.url + CALLBACK,
        "response_type": "code",
        "scope": "openid",
        "state": "s1",
        "nonce": "n1",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        **changed,
    }


@pytest.fixture
def log_in(site, request_for):
    def act(**changed):
        url = f"{site.url}/login/authorize"
        return requests.post(url, data={**request_for(), "name": "reader", **changed}, allow_redirects=False, timeout=5)

    return act


def code_of(answer):
    return parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]


def exchange(site, code, /, **changed):
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": site.url + CALLBACK,
        "code_verifier": VERIFIER,
        **changed,
    }
    return requests.post(f"{site.url}/login/token", data=form, timeout=5)


def test_login_gives_tokens_that_name_the_reader_and_the_issuer(site, issuer, key, log_in):
    answer = log_in()
    assert answer.status_code == 303
    assert parse_qs(urlsplit(answer.headers["Location"]).query)["state"] == ["s1"]
    tokens = exchange(site, code_of(answer)).json()
    public = key.private.public_key()
    access = jwt.decode(tokens["access_token"], public, ["ES256"], audience="framegate", issuer=issuer.url)
    assert access["sub"] == "reader"
    assert jwt.get_unverified_header(tokens["access_token"])["typ"] == "at+jwt"
    identity = jwt.decode(tokens["id_token"], public, ["ES256"], audience=CLIENT_ID, issuer=issuer.url)
    assert (identity["sub"], identity["nonce"]) == ("reader", "n1")


def test_code_is_valid_once(site, log_in):
    code = code_of(log_in())
    assert exchange(site, code).status_code == 200
    assert exchange(site, code).json() == {"error": "invalid_grant"}


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"code_verifier": "w" * 43}, "invalid_grant"),
        ({"code_verifier": ""}, "invalid_grant"),
        ({"redirect_uri": "http://localhost:1/"}, "invalid_grant"),
        ({"code": "guessed"}, "invalid_grant"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
    ],
)
def test_code_without_its_verifier_gives_no_token(site, log_in, changed, error):
    answer = exchange(site, code_of(log_in()), **changed)
    assert (answer.status_code, answer.json()) == (400, {"error": error})


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"client_id": "another"}, "unauthorized_client"),
        ({"redirect_uri": "https://attacker.example/callback"}, "unauthorized_client"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"name": " "}, "access_denied"),
        ({"name": "n" * 65}, "access_denied"),
    ],
)
def test_other_requests_are_refused(log_in, changed, error):
    answer = log_in(**changed)
    assert (answer.status_code, answer.json()) == (400, {"error": error})


def test_page_escapes_what_the_request_says(site, request_for):
    answer = requests.get(f"{site.url}/login/authorize", params=request_for(state='"><script>x</script>'), timeout=5)
    assert answer.status_code == 200
    assert "<script>" not in answer.text


def test_discovery_names_the_issuer_and_endpoints_of_the_viewers_origin(site, issuer):
    document = requests.get(f"{site.url}/login{DISCOVERY}", timeout=5).json()
    assert document["issuer"] == issuer.url
    assert document["token_endpoint"] == f"{site.url}/login/token"
    keys = requests.get(document["jwks_uri"], timeout=5).json()["keys"]
    assert [each["kid"] for each in keys] == ["viewer"]


def test_configuration_points_at_the_deployment(site):
    site.dicomweb_url = "http://localhost:9/v1/datastore/d1"
    script = requests.get(f"{site.url}/app-config.js", timeout=5).text
    assert re.search(r'"wadoRoot": "http://localhost:9/v1/datastore/d1"', script)
    assert f'"authority": "{site.url}/login"' in script


@pytest.mark.parametrize(
    "path", ["/", "/viewer?StudyInstanceUIDs=1.2", "/..%2fsecret", "/%2e%2e/secret", "/login/other"]
)
def test_every_other_path_gets_the_only_page(site, path):
    assert requests.get(site.url + path, timeout=5).text == "the only page"


def test_files_of_the_application_are_served(site):
    answer = requests.get(f"{site.url}/app.js", timeout=5)
    assert (answer.text, answer.headers["Content-Type"]) == ("the script", "text/javascript")
