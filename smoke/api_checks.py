"""Calls every route of the REST API once in each form that clients use."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import requests

from smoke.deployment import EMULATED
from smoke.report import CheckFailedError, CheckSkippedError, expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from smoke.deployment import Deployment, Frame

TIMEOUT_SECONDS = 60

MAX_IMAGE_SETS = 20
"""Image sets per data store that are compared to find a small one."""

UNKNOWN_ID = "0" * 32

URL_LIFETIME_SECONDS = 60


class ApiChecks:
    """Checks of the REST API. The first one, `find`, chooses the image set and the frame for the others.

    Parameters
    ----------
    deployment : Deployment
        The deployment under test.
    image_set : str or None
        ``datastoreId/imageSetId`` of the image set to use; by default, a small one is found.

    Attributes
    ----------
    frame : Frame
        The frame that the checks request, once `find` has run.
    frames : list of dict
        The entries of its image set's frame index.
    request_id : str
        API Gateway's id of an answered request.
    """

    frame: Frame
    frames: list[dict[str, Any]]

    def __init__(self, deployment: Deployment, image_set: str | None = None) -> None:
        self.deployment = deployment
        self._image_set = image_set
        self.request_id = ""

    def by_name(self) -> dict[str, Callable[[], str]]:
        """The checks that follow `find`, by the name of their line."""
        return {
            "GET …/imageFrames": self.index,
            "HEAD …/imageFrames": self.index_head,
            "GET …/imageFrame/{imageFrameId}": self.frame_bytes,
            "HEAD …/imageFrame/{imageFrameId}": self.frame_head,
            "GET …/imageFrame/{imageFrameId}, as JSON": self.frame_json,
            "GET …/imageFrame/{imageFrameId}, If-None-Match": self.frame_not_modified,
            "GET …/imageFrame/{imageFrameId}, Range": self.frame_range,
            "GET …/imageFrame/{imageFrameId}?resolution=0": self.frame_resolution,
            "GET …/imageFrame/{imageFrameId}?delivery=url": self.frame_by_url,
            "pre-signed URL of mismatched/…": self.mismatched_url,
            "GET …/getImageFrame": self.frame_by_query,
            "HEAD …/getImageFrame": self.frame_by_query_head,
            "POST …/getImageFrame": self.frame_by_post,
            "an unknown frame": self.unknown_frame,
            "a malformed id": self.malformed_id,
            "a data store outside the deployment": self.other_datastore,
            "no credentials": self.no_credentials,
            "CORS preflight": self.preflight,
        }

    def find(self) -> str:
        """Find a small image set through the frame index, and get one frame of it from HealthImaging itself."""
        candidates = list(self._candidates())
        if not candidates:
            raise CheckFailedError("no image set has a frame: import a DICOM file, or name one with image_set=…")
        datastore_id, image_set_id, self.frames = min(candidates, key=lambda each: sum(map(_size, each[2])))
        smallest = min(self.frames, key=_size)
        self.frame = self.deployment.reference(datastore_id, image_set_id, smallest["imageFrameId"])
        return (
            f"image set {image_set_id} of data store {datastore_id}, {len(self.frames)} frames; "
            f"one of {len(self.frame.content):,} bytes"
        )

    def index(self) -> str:
        """``GET …/imageFrames`` pages through the index and answers 304 to a current ETag."""
        first = self.get(f"{self._set_url()}/imageFrames?maxResults=1")
        expect("status", first.status_code, 200)
        expect("entries of a page of one", len(first.json()["imageFrames"]), 1)
        again = self.get(
            f"{self._set_url()}/imageFrames?maxResults=1", headers={"If-None-Match": first.headers["ETag"]}
        )
        expect("status with If-None-Match", again.status_code, 304)
        return f"version {first.json()['versionId']}; 304 with its ETag"

    def frame_bytes(self) -> str:
        """``GET …/imageFrame/{id}`` returns what ``GetImageFrame`` returns."""
        first = self.get(self.frame_url())
        self.request_id = first.headers.get("x-amzn-RequestId", "")
        answer = self.follow(first)
        expect("status", answer.status_code, 200)
        self.expect_whole(answer.content)
        return f"{len(answer.content):,} bytes of {answer.headers.get('Content-Type')}, identical to GetImageFrame"

    def frame_head(self) -> str:
        """``HEAD …/imageFrame/{id}`` has the status and ETag of GET, without a body."""
        return self.expect_head(self.frame_url())

    def frame_by_query_head(self) -> str:
        """``HEAD …/getImageFrame?imageFrameId=`` has the status and ETag of GET, without a body."""
        return self.expect_head(f"{self._set_url()}/getImageFrame?imageFrameId={self.frame.image_frame_id}")

    def index_head(self) -> str:
        """``HEAD …/imageFrames`` has the status and ETag of GET, without a body."""
        return self.expect_head(f"{self._set_url()}/imageFrames")

    def frame_json(self) -> str:
        """``Accept: application/json`` returns the frame in base64, or its URL."""
        answer = self.get(self.frame_url(), headers={"Accept": "application/json"})
        expect("status", answer.status_code, 200)
        document = answer.json()
        expect("contentLength", document["contentLength"], len(self.frame.content))
        if "imageFrameBlob" not in document:
            return "JSON with a pre-signed URL"
        self.expect_whole(base64.b64decode(document["imageFrameBlob"]))
        return "JSON with the frame in base64"

    def frame_not_modified(self) -> str:
        """``If-None-Match`` with the current ``ETag`` answers 304."""
        first = self.get(self.frame_url())
        if "ETag" not in first.headers:
            raise CheckSkippedError("the frame is delivered by URL, which has no ETag")
        answer = self.get(self.frame_url(), headers={"If-None-Match": first.headers["ETag"]})
        expect("status", answer.status_code, 304)
        return "304"

    def frame_range(self) -> str:
        """``Range`` returns part of the frame."""
        answer = self.get(self.frame_url(), headers={"Range": "bytes=2-9", "Accept": "*/*"})
        if answer.status_code == 303:
            raise CheckSkippedError("the frame is delivered by URL, where S3 answers ranges")
        expect("status", answer.status_code, 206)
        expect("bytes", answer.content, self.frame.content[2:10])
        return "206, bytes 2 to 9"

    def frame_resolution(self) -> str:
        """``?resolution=0`` returns the smallest stored resolution, or the whole frame where there is one."""
        answer = self.follow(self.get(f"{self.frame_url()}?resolution=0"))
        expect("status", answer.status_code, 200)
        if len(answer.content) > len(self.frame.content):
            raise CheckFailedError(f"{len(answer.content):,} bytes, more than the whole frame")
        resolutions = answer.headers.get("Framegate-Resolutions", "one")
        return f"{len(answer.content):,} of {len(self.frame.content):,} bytes; {resolutions} resolutions"

    def frame_by_query(self) -> str:
        """``GET …/getImageFrame?imageFrameId=`` returns the same frame."""
        url = f"{self._set_url()}/getImageFrame?imageFrameId={self.frame.image_frame_id}"
        self.expect_whole(self.follow(self.get(url)).content)
        return "identical"

    def frame_by_post(self) -> str:
        """``POST …/getImageFrame`` takes HealthImaging's own request body."""
        answer = self._http().post(
            f"{self._set_url()}/getImageFrame",
            data=json.dumps({"imageFrameId": self.frame.image_frame_id}),
            headers={"Content-Type": "application/json", "Accept": "*/*"},
            timeout=TIMEOUT_SECONDS,
            allow_redirects=False,
        )
        self.expect_whole(self.follow(answer).content)
        return "identical"

    def frame_by_url(self) -> str:
        """``?delivery=url`` stores a copy in the bucket and redirects to a pre-signed URL of it."""
        answer = self.get(f"{self.frame_url()}?delivery=url")
        expect("status", answer.status_code, 303)
        stored = requests.get(answer.headers["Location"], timeout=TIMEOUT_SECONDS)
        self.expect_whole(stored.content)
        part = requests.get(answer.headers["Location"], headers={"Range": "bytes=0-1"}, timeout=TIMEOUT_SECONDS)
        expect("status of a range from S3", part.status_code, 206)
        return "303 to S3; the copy is identical, and S3 answers ranges"

    def mismatched_url(self) -> str:
        """The bucket's policy denies pre-signed URLs for ``mismatched/``, whoever signs them.

        The object need not exist: S3 answers 403 before it looks for it. A URL for a missing object under another
        prefix answers 404, which shows that the 403 comes from the policy and not from missing permissions.
        """
        if EMULATED:
            raise CheckSkippedError("an emulated cloud does not evaluate s3:authType")
        path = f"{self.frame.datastore_id}/{self.frame.image_set_id}/{UNKNOWN_ID}"
        denied, missing = (self._presigned_get(f"{prefix}/{path}") for prefix in ("mismatched", "frames"))
        expect("status", denied.status_code, 403)
        if missing.status_code != 404:
            raise CheckSkippedError(
                f"403, but a missing object answers {missing.status_code}: your credentials may lack s3:GetObject or "
                "s3:ListBucket on the bucket, so this proves nothing"
            )
        return "403; the policy denies the URL"

    def unknown_frame(self) -> str:
        """An unknown frame answers 404 with a problem document."""
        return self.expect_problem(f"{self._set_url()}/imageFrame/{UNKNOWN_ID}", 404, "frame-not-found")

    def malformed_id(self) -> str:
        """A malformed identifier answers 400 with a problem document."""
        return self.expect_problem(f"{self._set_url()}/imageFrame/not-an-id", 400, "invalid-identifier")

    def other_datastore(self) -> str:
        """A data store outside the deployment answers 403."""
        url = f"{self.deployment.api_url}/datastore/{UNKNOWN_ID}/imageSet/{UNKNOWN_ID}/imageFrame/{UNKNOWN_ID}"
        answer = self.get(url)
        expect("status", answer.status_code, 403)
        return "403"

    def no_credentials(self) -> str:
        """A request without credentials answers 401 or 403 with a problem document."""
        answer = requests.get(self.frame_url(), timeout=TIMEOUT_SECONDS, allow_redirects=False)
        if answer.status_code not in {401, 403}:
            raise CheckFailedError(_described(answer))
        expect("Content-Type", answer.headers.get("Content-Type"), "application/problem+json")
        return f"{answer.status_code}"

    def preflight(self) -> str:
        """A CORS preflight needs no credentials."""
        origin = "https://viewer.example"
        headers = {"Origin": origin, "Access-Control-Request-Method": "GET"}
        answer = requests.options(self.frame_url(), headers=headers, timeout=TIMEOUT_SECONDS)
        if answer.status_code not in {200, 204}:
            raise CheckFailedError(_described(answer))
        return f"{answer.status_code}, allows {answer.headers.get('Access-Control-Allow-Origin', 'no origin')}"

    def _candidates(self) -> Any:
        if self._image_set:
            datastore_id, _, image_set_id = self._image_set.partition("/")
            yield datastore_id, image_set_id, self._entries(datastore_id, image_set_id)
            return
        client = self.deployment.client("medical-imaging")
        for datastore_id in self.deployment.datastore_ids:
            found = client.search_image_sets(datastoreId=datastore_id, maxResults=MAX_IMAGE_SETS)
            for summary in found["imageSetsMetadataSummaries"]:
                if entries := self._entries(datastore_id, summary["imageSetId"]):
                    yield datastore_id, summary["imageSetId"], entries

    def _entries(self, datastore_id: str, image_set_id: str) -> list[dict[str, Any]]:
        """Read all entries of an image set's frame index."""
        url = f"{self.deployment.api_url}/datastore/{datastore_id}/imageSet/{image_set_id}/imageFrames?maxResults=1000"
        entries: list[dict[str, Any]] = []
        token: str | None = ""
        while token is not None:
            answer = self.get(f"{url}&nextToken={token}" if token else url)
            if answer.status_code != 200:
                raise CheckFailedError(_described(answer))
            document = answer.json()
            entries += document["imageFrames"]
            token = document.get("nextToken")
        return entries

    def _set_url(self) -> str:
        frame = self.frame
        return f"{self.deployment.api_url}/datastore/{frame.datastore_id}/imageSet/{frame.image_set_id}"

    def frame_url(self) -> str:
        return f"{self._set_url()}/imageFrame/{self.frame.image_frame_id}"

    def _http(self) -> requests.Session:
        return self.deployment.http()

    def get(self, url: str, headers: dict[str, str] | None = None) -> requests.Response:
        """Get a URL with the API's credentials, without following redirects."""
        return self._http().get(url, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False)

    def _presigned_get(self, key: str) -> requests.Response:
        """Get an object by a URL that the caller's own AWS credentials sign."""
        parameters = {"Bucket": self.deployment.bucket, "Key": key}
        client = self.deployment.client("s3")
        url = client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=URL_LIFETIME_SECONDS)
        return requests.get(url, timeout=TIMEOUT_SECONDS)

    def expect_head(self, url: str) -> str:
        """Check that HEAD has the status and ETag of GET, without a body."""
        whole = self.get(url)
        answer = self._http().head(url, headers={"Accept": "*/*"}, timeout=TIMEOUT_SECONDS, allow_redirects=False)
        expect("status", answer.status_code, whole.status_code)
        expect("ETag", answer.headers.get("ETag"), whole.headers.get("ETag"))
        expect("bytes of the body", len(answer.content), 0)
        length = answer.headers.get("Content-Length", "absent")
        return f"{answer.status_code} without a body, Content-Length {length} (GET: {len(whole.content)} bytes)"

    def follow(self, answer: requests.Response) -> requests.Response:
        """Follow a redirect to a pre-signed URL, without signing again; return any other response unchanged."""
        if answer.status_code == 303:
            return requests.get(answer.headers["Location"], timeout=TIMEOUT_SECONDS)
        if answer.status_code != 200:
            raise CheckFailedError(_described(answer))
        return answer

    def expect_whole(self, content: bytes) -> None:
        """Check that the bytes are those of ``GetImageFrame``."""
        if content != self.frame.content:
            raise CheckFailedError(
                f"{len(content):,} bytes, which differ from the {len(self.frame.content):,} bytes of GetImageFrame"
            )

    def expect_problem(self, url: str, status: int, slug: str) -> str:
        """Check that GET answers with a problem document."""
        answer = self.get(url)
        expect("status", answer.status_code, status)
        expect("type", answer.json()["type"], f"urn:framegate:problem:{slug}")
        return f"{status}, {slug}"


def _size(entry: dict[str, Any]) -> int:
    """The size of a frame in an index entry, in bytes; 0 if HealthImaging does not report it."""
    return int(entry.get("contentLength") or 0)


def _described(answer: requests.Response) -> str:
    return f"status {answer.status_code}: {answer.text[:300]}"
