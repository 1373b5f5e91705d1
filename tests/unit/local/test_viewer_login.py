"""The login page of `make viewer`, over HTTP as a browser uses it."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import struct
import time
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
import requests

from local.token_issuer import DISCOVERY, TokenIssuer
from local.viewer.login import SESSION_LIFETIME_SECONDS
from local.viewer.ohif import CALLBACK, CLIENT_ID
from local.viewer.site import ViewerSite

VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()

HASHED = ["8097.bundle.8ae6404ba94890a0.js", "37fa160cc3a47cfd.wasm"]
"""Names with a hash of the content, as OHIF has them."""


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
    for name in HASHED:
        (application / name).write_text("the script")
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


@pytest.fixture
def authorize(site, request_for):
    """Sends an authorization request with the cookies of a browser."""

    def act(browser, **changed):
        url = f"{site.url}/login/authorize"
        return browser.get(url, params=request_for(**changed), allow_redirects=False, timeout=5)

    return act


@pytest.fixture
def new_browser(site, request_for):
    """Opens a browser in which somebody has logged in."""

    def open_one(name):
        browser = requests.Session()
        form = {**request_for(), "name": name}
        answer = browser.post(f"{site.url}/login/authorize", data=form, allow_redirects=False, timeout=5)
        assert answer.status_code == 303
        return browser

    return open_one


def subject_of(site, key, code):
    token = exchange(site, code).json()["access_token"]
    return jwt.decode(token, key.private.public_key(), ["ES256"], audience="framegate")["sub"]


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


def test_person_who_has_logged_in_gets_a_code_without_the_page(site, key, authorize, new_browser):
    answer = authorize(new_browser("reader"), state="s2")
    assert answer.status_code == 303
    assert parse_qs(urlsplit(answer.headers["Location"]).query)["state"] == ["s2"]
    assert subject_of(site, key, code_of(answer)) == "reader"


def test_two_browsers_keep_two_people_apart(site, key, authorize, new_browser):
    browsers = {name: new_browser(name) for name in ("alice", "bob")}
    subjects = {name: subject_of(site, key, code_of(authorize(each))) for name, each in browsers.items()}
    assert subjects == {"alice": "alice", "bob": "bob"}


def test_session_belongs_to_the_client_that_asks(authorize, new_browser):
    answer = authorize(new_browser("reader"), redirect_uri="https://attacker.example/callback")
    assert (answer.status_code, answer.json()) == (400, {"error": "unauthorized_client"})


@pytest.mark.parametrize("cookie", [None, "", "guessed", '"'])
def test_browser_without_a_session_gets_the_page(site, authorize, cookie):
    browser = requests.Session()
    if cookie is not None:
        browser.headers["Cookie"] = f"other=1; {site.session_cookie}={cookie}"
    answer = authorize(browser)
    assert (answer.status_code, "<h1>Log in</h1>" in answer.text) == (200, True)


def test_session_is_found_among_cookies_of_other_servers(site, authorize, new_browser):
    session_id = new_browser("reader").cookies[site.session_cookie]
    browser = requests.Session()
    browser.headers["Cookie"] = f"other=(a,b); in valid; {site.session_cookie}={session_id}; last=1"
    assert authorize(browser).status_code == 303


def test_session_expires(authorize, new_browser, monkeypatch):
    browser = new_browser("reader")
    expiry = time.time() + SESSION_LIFETIME_SECONDS
    monkeypatch.setattr(time, "time", lambda: expiry)
    assert authorize(browser).status_code == 200


def test_client_can_demand_or_forbid_the_page(authorize, new_browser):
    assert authorize(new_browser("reader"), prompt="login").status_code == 200
    assert code_of(authorize(new_browser("reader"), prompt="none"))
    answer = authorize(requests.Session(), prompt="none")
    assert parse_qs(urlsplit(answer.headers["Location"]).query) == {"error": ["login_required"], "state": ["s1"]}


def test_scripts_and_other_sites_cannot_use_the_session_cookie(site, log_in):
    cookie = log_in().headers["Set-Cookie"]
    assert cookie.startswith(f"{site.session_cookie}=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/login"} <= set(cookie.split("; "))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_logout_ends_the_session_and_returns_to_the_viewer(site, authorize, new_browser, method):
    browser = new_browser("reader")
    stolen = browser.cookies.copy()
    page = {"post_logout_redirect_uri": f"{site.url}/viewer?StudyInstanceUIDs=1.2", "state": "s3"}
    arguments = {"params" if method == "GET" else "data": page}
    answer = browser.request(method, f"{site.url}/login/end-session", allow_redirects=False, timeout=5, **arguments)
    location = f"{site.url}/viewer?StudyInstanceUIDs=1.2&state=s3"
    assert (answer.status_code, answer.headers["Location"]) == (303, location)
    assert site.session_cookie not in browser.cookies
    browser.cookies = stolen
    assert authorize(browser).status_code == 200


def test_logout_of_one_browser_leaves_the_other_logged_in(site, authorize, new_browser):
    alice, bob = new_browser("alice"), new_browser("bob")
    alice.get(f"{site.url}/login/end-session", allow_redirects=False, timeout=5)
    assert [authorize(each).status_code for each in (alice, bob)] == [200, 303]


def test_logout_without_a_page_returns_to_the_study_list(site):
    answer = requests.get(f"{site.url}/login/end-session", allow_redirects=False, timeout=5)
    assert (answer.status_code, answer.headers["Location"]) == (303, f"{site.url}/")


@pytest.mark.parametrize("page", ["https://attacker.example/", "//attacker.example/", "{url}.attacker.example/", "/"])
def test_logout_redirects_nowhere_else(site, authorize, new_browser, page):
    browser = new_browser("reader")
    answer = browser.get(
        f"{site.url}/login/end-session",
        params={"post_logout_redirect_uri": page.format(url=site.url)},
        allow_redirects=False,
        timeout=5,
    )
    assert (answer.status_code, answer.json()) == (400, {"error": "invalid_request"})


def test_logout_adds_no_header_of_the_request(site):
    page = f"{site.url}/\r\nSet-Cookie: stolen=1"
    answer = requests.get(
        f"{site.url}/login/end-session", params={"post_logout_redirect_uri": page}, allow_redirects=False, timeout=5
    )
    assert "stolen" not in answer.cookies


def test_further_claims_are_in_access_tokens(issuer, key, tmp_path):
    with ViewerSite(tmp_path, issuer, key, {"https://example.org/datastores": ["d1"]}) as site:
        form = {
            "client_id": CLIENT_ID,
            "redirect_uri": site.url + CALLBACK,
            "response_type": "code",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
            "name": "reader",
        }
        answer = requests.post(f"{site.url}/login/authorize", data=form, allow_redirects=False, timeout=5)
        tokens = exchange(site, code_of(answer)).json()
    claims = jwt.decode(tokens["access_token"], key.private.public_key(), ["ES256"], audience="framegate")
    assert claims["https://example.org/datastores"] == ["d1"]


def test_page_escapes_what_the_request_says(site, request_for):
    answer = requests.get(f"{site.url}/login/authorize", params=request_for(state='"><script>x</script>'), timeout=5)
    assert answer.status_code == 200
    assert "<script>" not in answer.text


def test_discovery_names_the_issuer_and_endpoints_of_the_viewers_origin(site, issuer):
    document = requests.get(f"{site.url}/login{DISCOVERY}", timeout=5).json()
    assert document["issuer"] == issuer.url
    assert document["token_endpoint"] == f"{site.url}/login/token"
    assert document["end_session_endpoint"] == f"{site.url}/login/end-session"
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


@pytest.mark.parametrize("name", HASHED)
def test_browsers_keep_files_whose_names_contain_a_hash(site, name):
    assert "immutable" in requests.get(f"{site.url}/{name}").headers["Cache-Control"]


@pytest.mark.parametrize("name", ["", "app.js", "app-config.js", "a/path/of/the/viewer", "0123456789abcdef.js"])
def test_browsers_ask_again_for_every_other_file(site, name):
    assert requests.get(f"{site.url}/{name}").headers["Cache-Control"] == "no-cache"


def test_closed_connection_prints_nothing(site, capfd):
    address = ("localhost", urlsplit(site.url).port)
    with socket.create_connection(address) as connection:
        # The server's next read fails, because this close sends a reset.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with socket.create_connection(address) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        while connection.recv(1024):
            pass
    assert capfd.readouterr() == ("", "")
