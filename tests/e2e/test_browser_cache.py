"""The next person at the same browser: Chromium, a page of another origin, and the deployed API with tokens."""

from __future__ import annotations

import os
from hashlib import sha256

import pytest

from tests.e2e.chromium import MAX_PAGE_SECONDS, needs_chromium, profile
from tests.e2e.conftest import Api, log_reader
from tests.e2e.watching import wait_for

FRAME = os.urandom(100_000)
DIGEST = sha256(FRAME).hexdigest()

pytestmark = needs_chromium

FETCH = """async ({ url, tokens, milliseconds }) => {
  const hexadecimal = bytes => [...new Uint8Array(bytes)].map(each => each.toString(16).padStart(2, "0")).join("");
  const answers = [];
  for (const token of tokens) {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const answer = await fetch(url, { headers, signal: AbortSignal.timeout(milliseconds) });
    const body = await answer.arrayBuffer();
    answers.push({ status: answer.status, sha256: hexadecimal(await crypto.subtle.digest("SHA-256", body)) });
  }
  return answers;
}"""


@pytest.fixture
def visit(viewer):
    """Starts the browser with a profile, fetches a URL with each token from the viewer's page, and ends the browser."""

    def act(folder, url, *tokens):
        with profile(folder) as context:
            page = context.new_page()
            # A page of the viewer's origin that runs no scripts.
            page.goto(f"{viewer.site.url}/login/keys")
            request = {"url": url, "tokens": tokens, "milliseconds": MAX_PAGE_SECONDS * 1000}
            return page.evaluate(FETCH, request)

    return act


@pytest.fixture(scope="module")
def alice(viewer):
    """The token of a person who may read the data store of the frame."""
    return viewer.token("alice", viewer.datastore_ids[1])


@pytest.fixture(scope="module")
def bob(viewer):
    """The token of a person who may read another data store only."""
    return viewer.token("bob", viewer.datastore_ids[2])


@pytest.fixture
def url(viewer):
    """The URL of a frame that no browser has fetched yet."""
    frame = viewer.cloud.health_imaging.add_frame(viewer.datastore_ids[1], FRAME, "image/jph")
    return Api(viewer.deployment.api_url).frame_url(frame)


def statuses(answers):
    return [answer["status"] for answer in answers]


def test_next_person_at_the_same_page_gets_nothing_from_the_cache(visit, url, alice, bob, tmp_path):
    answers = visit(tmp_path, url, alice, bob, None)

    assert statuses(answers) == [200, 403, 401]
    assert [answer["sha256"] == DIGEST for answer in answers] == [True, False, False]


def test_next_person_after_a_restart_of_the_browser_gets_nothing_from_the_cache(visit, url, alice, bob, tmp_path):
    assert statuses(visit(tmp_path, url, alice)) == [200]
    answers = visit(tmp_path, url, None, bob)

    assert statuses(answers) == [401, 403]
    assert DIGEST not in [answer["sha256"] for answer in answers]


def test_same_person_reads_the_cached_frame_after_the_api_answers_304(visit, viewer, url, alice, tmp_path):
    read = log_reader(viewer.cloud, "ApiFunction")
    answers = visit(tmp_path, url, alice, alice)
    image_frame_id = url.rpartition("/")[2]

    def answered():
        return [line["status"] for line in read() if line.get("image_frame_id") == image_frame_id]

    assert answers == [{"status": 200, "sha256": DIGEST}] * 2
    assert wait_for(lambda: len(answered()) >= 2 and sorted(answered())) == [200, 304]
