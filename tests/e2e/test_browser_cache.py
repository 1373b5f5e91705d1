"""The next person at the same browser: Chromium, a page of another origin, and the deployed API with tokens."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue

import pytest

from local.cloud import LocalCloud
from local.token_issuer import TokenIssuer
from tests.e2e.conftest import Api, log_reader
from tests.e2e.watching import wait_for

FRAME = os.urandom(100_000)
DIGEST = sha256(FRAME).hexdigest()
CLAIM = "https://example.org/datastores"
CHROMIUM = shutil.which(os.environ.get("CHROMIUM", "chromium"))
MAX_PAGE_SECONDS = 120

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: install it, or set CHROMIUM to the path of a Chromium browser"
)

PAGE = b"""<!doctype html><script type=module>
const { url, tokens } = await (await fetch("/visit")).json();
const hexadecimal = bytes => [...new Uint8Array(bytes)].map(each => each.toString(16).padStart(2, "0")).join("");
const answers = [];
for (const token of tokens) {
  try {
    const answer = await fetch(url, { headers: token ? { Authorization: `Bearer ${token}` } : {} });
    const body = await answer.arrayBuffer();
    answers.push({ status: answer.status, sha256: hexadecimal(await crypto.subtle.digest("SHA-256", body)) });
  } catch (error) {
    answers.push({ status: 0, sha256: String(error) });
  }
}
await fetch("/answers", { method: "POST", body: JSON.stringify(answers) });
</script>"""


class Viewer:
    """Serves a page that fetches a frame with each of the given tokens, and reports the answers."""

    def __init__(self):
        self._visit = {}
        self._answers = Queue()
        viewer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def _send(self, content_type, body):
                self.send_response(200)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                if self.path == "/visit":
                    self._send("application/json", json.dumps(viewer._visit).encode())
                else:
                    self._send("text/html", PAGE)

            def do_POST(self):
                viewer._answers.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self._send("text/plain", b"")

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def visit(self, profile, url, *tokens):
        """Start the browser with this profile, fetch the frame with each token, and end the browser."""
        self._visit = {"url": url, "tokens": tokens}
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--no-proxy-server"]
        environment = {"PATH": os.environ["PATH"], "HOME": str(profile)}
        browser = subprocess.Popen(
            [CHROMIUM, *options, f"--user-data-dir={profile}", "--remote-debugging-port=0", self.origin],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return self._answers.get(timeout=MAX_PAGE_SECONDS)
        finally:
            browser.terminate()
            browser.wait(30)


@pytest.fixture(scope="module")
def viewer():
    with Viewer() as running:
        yield running


@pytest.fixture(scope="module")
def issuer(tmp_path_factory):
    with TokenIssuer(tmp_path_factory.mktemp("issuer"), "/realms/imaging") as running:
        yield running


@pytest.fixture(scope="module")
def cloud(issuer):
    with LocalCloud(trusted=issuer.certificate) as running:
        yield running


@pytest.fixture(scope="module")
def datastores(cloud):
    return [cloud.health_imaging.create_datastore(name) for name in ("first", "second")]


@pytest.fixture(scope="module")
def deployment(cloud, datastores, issuer, viewer):
    return cloud.deploy(
        *datastores,
        cors_origins=viewer.origin,
        auth="jwt",
        jwt_issuer=issuer.url,
        jwt_audience="framegate",
        jwt_datastores_claim=CLAIM,
    )


@pytest.fixture(scope="module")
def alice(issuer, datastores):
    """The token of a person who may read the first data store."""
    return issuer.new_key("RS256", "first").sign(issuer.claims(sub="alice", **{CLAIM: datastores[:1]}))


@pytest.fixture(scope="module")
def bob(issuer, datastores):
    """The token of a person who may read the second data store only."""
    return issuer.new_key("RS256", "second").sign(issuer.claims(sub="bob", **{CLAIM: datastores[1:]}))


@pytest.fixture
def url(deployment, cloud, datastores):
    """The URL of a frame that no browser has fetched yet."""
    return Api(deployment.api_url).frame_url(cloud.health_imaging.add_frame(datastores[0], FRAME, "image/jph"))


def statuses(answers):
    return [answer["status"] for answer in answers]


def test_next_person_at_the_same_page_gets_nothing_from_the_cache(viewer, url, alice, bob, tmp_path):
    answers = viewer.visit(tmp_path, url, alice, bob, None)

    assert statuses(answers) == [200, 403, 401]
    assert [answer["sha256"] == DIGEST for answer in answers] == [True, False, False]


def test_next_person_after_a_restart_of_the_browser_gets_nothing_from_the_cache(viewer, url, alice, bob, tmp_path):
    assert statuses(viewer.visit(tmp_path, url, alice)) == [200]
    answers = viewer.visit(tmp_path, url, None, bob)

    assert statuses(answers) == [401, 403]
    assert DIGEST not in [answer["sha256"] for answer in answers]


def test_same_person_reads_the_cached_frame_after_the_api_answers_304(viewer, cloud, url, alice, tmp_path):
    read = log_reader(cloud, "ApiFunction")
    answers = viewer.visit(tmp_path, url, alice, alice)
    image_frame_id = url.rpartition("/")[2]

    def answered():
        return [line["status"] for line in read() if line.get("image_frame_id") == image_frame_id]

    assert answers == [{"status": 200, "sha256": DIGEST}] * 2
    assert wait_for(lambda: len(answered()) >= 2 and sorted(answered())) == [200, 304]
