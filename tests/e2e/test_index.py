"""The frame index over HTTP: imports, new versions, deletions, and image sets of 50,000 frames."""

from __future__ import annotations

import time

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from local.health_imaging import FrameAddress
from tests.e2e.conftest import CONTENT_TYPES
from tests.e2e.test_large_frames import MIB, PeakMemory
from tests.e2e.watching import Bucket, wait_for

MANY = 50_000


@pytest.fixture
def index_of(api):
    """A function that requests a page of the index of a frame's image set."""

    def get(frame, headers=None, **query):
        url = f"{api.url}/datastore/{frame.datastore_id}/imageSet/{frame.image_set_id}/imageFrames"
        return api.request("GET", url, params=query, headers=headers)

    return get


def all_pages(index_of, frame, **query):
    while True:
        page = index_of(frame, **query).json()
        yield page
        if "nextToken" not in page:
            return
        query["nextToken"] = page["nextToken"]


def test_index_matches_every_imported_frame(api, imported, index_of, health_imaging):
    image_sets = {frame.image_set_id: frame for frame in imported.frames}
    listed = {
        entry["imageFrameId"]: entry
        for frame in image_sets.values()
        for page in all_pages(index_of, frame)
        for entry in page["imageFrames"]
    }
    assert {frame.image_frame_id: (frame.sop_instance_uid, frame.number, frame.size) for frame in imported.frames} == {
        entry["imageFrameId"]: (entry["sopInstanceUID"], entry["frameNumber"], entry["contentLength"])
        for entry in listed.values()
    }
    for frame in image_sets.values():
        entry = listed[frame.image_frame_id]
        answer = api.get(frame, params={"resolution": 0})
        expected = CONTENT_TYPES[entry["contentType"]]
        assert answer.headers.get("Content-Type", expected) == expected
        if "Framegate-Resolutions" in answer.headers:
            assert int(answer.headers["Framegate-Resolutions"]) == entry["resolutions"]
            whole = api.get(frame, params={"resolution": 32}).headers
            assert whole["Framegate-Whole-Frame"] == "true"
            assert (int(whole["Framegate-Rows"]), int(whole["Framegate-Columns"])) == (entry["rows"], entry["columns"])


def test_new_version_is_listed_after_its_event(emulator, import_datastore_id, deployment, index_of, tmp_path):
    dataset = pydicom.dcmread(get_testdata_file("MR_small.dcm"))
    dataset.SeriesInstanceUID = generate_uid()

    def import_another():
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(tmp_path / "slice.dcm")
        (image_set,) = emulator.import_files(import_datastore_id, [tmp_path / "slice.dcm"])
        return FrameAddress(image_set.datastore_id, image_set.id, next(iter(image_set.frames)))

    frame = import_another()
    first = index_of(frame)
    assert (first.json()["versionId"], len(first.json()["imageFrames"])) == ("1", 1)
    assert index_of(frame, {"If-None-Match": first.headers["ETag"]}).status_code == 304
    import_another()
    emulator.announce("Image Set Updated", frame.datastore_id, frame.image_set_id)
    wait_for(lambda: index_of(frame).json()["versionId"] == "2")
    assert index_of(frame, {"If-None-Match": first.headers["ETag"]}).status_code == 200
    assert len(index_of(frame).json()["imageFrames"]) == 2
    assert len(index_of(frame, versionId="1").json()["imageFrames"]) == 1


def test_index_of_a_deleted_image_set_is_removed(emulator, datastore_id, deployment, index_of, s3):
    (frame,) = emulator.add_frames(datastore_id, [b"x"], "image/jph")
    assert index_of(frame).status_code == 200
    bucket = Bucket(s3, deployment.frame_bucket)
    prefix = f"indexes/{datastore_id}/{frame.image_set_id}/"
    assert bucket.listed(prefix)
    emulator.delete_image_set(datastore_id, frame.image_set_id)
    wait_for(lambda: not bucket.listed(prefix))
    answer = index_of(frame)
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:framegate:problem:image-set-not-found")
    assert index_of(frame, versionId="1").status_code == 404


def test_index_of_50000_frames_needs_little_memory(cloud, emulator, datastore_id, index_of, api):
    small = emulator.add_frame(datastore_id, b"small", "image/jph")
    index_of(small)
    with PeakMemory(cloud) as idle:
        time.sleep(0.2)
    frames = emulator.add_frames(datastore_id, (b"x" for _ in range(MANY)), "image/jph", per_instance=5)
    emulator.calls.clear()
    with PeakMemory(cloud) as busy:
        found = [entry["imageFrameId"] for page in all_pages(index_of, frames[0]) for entry in page["imageFrames"]]
    assert found == [frame.image_frame_id for frame in frames]
    assert busy.value - idle.value < 64 * MIB
    asked = [call.operation for call in emulator.calls if call.image_set_id == frames[0].image_set_id]
    assert sorted(asked) == ["GetImageSet", "GetImageSetMetadata"]
