"""The formats of messages: each class reads what it writes, and the formats keep their form."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framegate.bucket_layout import progress_key
from framegate.export.worker import ExportWorker
from framegate.identifiers import FrameRef, ImageSetRef
from framegate.messages import (
    DEFERRED_STORE_MESSAGES,
    EXPORT_MESSAGES,
    TABLE_MESSAGES,
    ExportAnnouncement,
    ExportOrder,
    ExportTask,
    ImageSetChanged,
    ImageSetDeleted,
    ObjectChanged,
    ObjectLocation,
    QueueMessage,
    RefreshTables,
    RemoveImageSet,
    StoreFrame,
    SummarizeTask,
    UnknownMessageError,
    UnknownTaskError,
    UpdateTables,
    ValidatedManifest,
    ValidateTask,
    decode,
    decode_task,
    encode,
)

DATASTORE, IMAGE_SET, FRAME = "d" * 32, "5" * 32, "f" * 32
REF = ImageSetRef(DATASTORE, IMAGE_SET)
NAMES = {"datastoreId": DATASTORE, "imageSetId": IMAGE_SET}

_ID = st.text("0123456789abcdefghijklmnopqrstuvwxyz", min_size=32, max_size=32)
_IMAGE_SET = st.builds(ImageSetRef, _ID, _ID)
_VERSION = st.none() | st.integers(1, 2**31).map(str)
_TEXT = st.text(min_size=1)
_COUNT = st.integers(0, 2**31)
_CHANGE = st.sampled_from(["Created", "Updated", "Copied"])


@st.composite
def orders(draw):
    image_set = draw(_IMAGE_SET)
    return ExportOrder.of_version(
        image_set,
        draw(_VERSION),
        verify=draw(st.booleans()),
        progress=draw(st.none() | st.uuids().map(lambda name: progress_key(image_set, str(name)))),
    )


MESSAGES = {
    ImageSetChanged: st.builds(
        ImageSetChanged, st.sampled_from(["Created", "Updated", "Copied"]), _IMAGE_SET, _VERSION
    ),
    ImageSetDeleted: st.builds(ImageSetDeleted, _IMAGE_SET),
    ExportOrder: orders(),
    RemoveImageSet: st.builds(RemoveImageSet, _IMAGE_SET, st.booleans()),
    StoreFrame: st.builds(StoreFrame, st.builds(FrameRef, _ID, _ID, _ID)),
    ObjectChanged: st.builds(ObjectChanged, _IMAGE_SET, st.booleans()),
    UpdateTables: st.builds(UpdateTables, st.lists(_IMAGE_SET, min_size=1, max_size=100).map(tuple)),
    RefreshTables: st.builds(RefreshTables, _ID, st.text()),
}

_LINE = st.fixed_dictionaries(
    {"datastoreId": _ID, "imageSetId": _ID},
    optional={"imageFrameIds": st.lists(_ID, min_size=1, max_size=3), "versionId": _TEXT, "verify": st.booleans()},
)
_VALIDATED = st.builds(ValidatedManifest, _TEXT, _TEXT, _TEXT, _TEXT, _COUNT, _TEXT, _COUNT, _COUNT)
TASKS = st.one_of(
    st.builds(ValidateTask, _TEXT, _TEXT),
    st.builds(ExportTask, _TEXT, st.integers(1, 10**6), _LINE, st.none() | _TEXT, st.booleans()),
    st.builds(SummarizeTask, _VALIDATED, st.none() | _TEXT),
)
ANNOUNCEMENTS = st.builds(
    ExportAnnouncement,
    _IMAGE_SET,
    _VERSION,
    _TEXT,
    st.booleans(),
    st.none() | _TEXT,
    st.none() | st.builds(ObjectLocation, _TEXT, _TEXT),
    st.fixed_dictionaries({"copied": _COUNT, "present": _COUNT, "failed": _COUNT}),
    _COUNT,
)


def test_every_message_has_a_strategy_and_a_handler():
    worker = ExportWorker(None, None, None, None, None, None, None, None, recheck_delay_seconds=0)
    assert set(get_args(QueueMessage)) == set(MESSAGES)
    assert set(MESSAGES) == set(worker._handlers) | set(TABLE_MESSAGES)
    assert set(EXPORT_MESSAGES) | set(DEFERRED_STORE_MESSAGES) == set(worker._handlers)


@given(st.one_of(*MESSAGES.values()))
def test_message_is_read_as_it_was_written(message):
    assert decode(encode(message)) == message


@given(TASKS)
def test_task_is_read_as_it_was_written(task):
    assert decode_task(json.loads(json.dumps(task.to_json()))) == task


@given(ANNOUNCEMENTS)
def test_announcement_is_read_as_it_was_written(announcement):
    assert ExportAnnouncement.from_json(json.loads(json.dumps(announcement.to_json()))) == announcement


PROGRESS = f"exports/{DATASTORE}/{IMAGE_SET}/progress/01234567-89ab-4cde-8f01-23456789abcd.jsonl"
FORMS = [
    (
        ExportOrder(REF, "version-1", "1", None, verify=True, progress=PROGRESS),
        {
            "framegate": "export",
            **NAMES,
            "exportId": "version-1",
            "versionId": "1",
            "imageFrameIds": None,
            "verify": True,
            "progress": PROGRESS,
        },
    ),
    (RemoveImageSet(REF, again=True), {"framegate": "remove", **NAMES, "again": True}),
    (
        StoreFrame(FrameRef(DATASTORE, IMAGE_SET, FRAME)),
        {"framegate": "store-frame", **NAMES, "imageFrameId": FRAME},
    ),
    (
        ImageSetChanged("Updated", REF, "2"),
        {
            "detail-type": "Image Set Updated",
            "detail": {"datastoreId": DATASTORE, "imagesetId": IMAGE_SET, "imageSetVersion": "2"},
        },
    ),
    (UpdateTables((REF,)), {"framegate": "update-tables", "imageSets": [NAMES]}),
    (RefreshTables(DATASTORE), {"framegate": "refresh-tables", "datastoreId": DATASTORE}),
    (
        ImageSetDeleted(REF),
        {"detail-type": "Image Set Deleted", "detail": {"datastoreId": DATASTORE, "imagesetId": IMAGE_SET}},
    ),
]


@pytest.mark.parametrize(("message", "document"), FORMS, ids=[type(message).__name__ for message, _ in FORMS])
def test_messages_keep_their_form(message, document):
    assert json.loads(encode(message)) == document
    assert decode(json.dumps(document)) == message


def test_tasks_keep_their_form():
    request = {**NAMES, "verify": True}
    task = {"task": "export", "execution": "run-1", "request": {"line": 7, **request}, "progress": "", "final": False}
    assert decode_task(task) == ExportTask("run-1", 7, request, None, final=False)
    assert decode_task(task).to_json() == task
    assert decode_task({"task": "validate", "key": "k", "execution": "run-1"}) == ValidateTask("k", "run-1")


@pytest.mark.parametrize(
    ("request_", "verify", "verified"), [({}, False, False), ({}, True, True), ({"verify": True}, False, True)]
)
def test_line_is_verified_if_it_or_the_deployment_asks_for_it(request_, verify, verified):
    order = ExportTask("run-1", 7, {**NAMES, **request_}, None, final=False).order(verify=verify)
    assert order == ExportOrder(REF, "run-1-7", verify=verified)


@pytest.mark.parametrize("completed", [True, False])
def test_announcement_keeps_its_form(completed):
    frames = {"copied": 1, "present": 2, "failed": 0}
    location = ObjectLocation("bucket", "exports/x/manifest.jsonl")
    announcement = ExportAnnouncement(REF, "1", "version-1", completed, None, location, frames, 30)
    assert announcement.detail_type == ("Frame Export Completed" if completed else "Frame Export Failed")
    assert announcement.to_json() == {
        **NAMES,
        "versionId": "1",
        "exportId": "version-1",
        "outcome": "completed" if completed else "failed",
        "problem": None,
        "manifest": {"bucket": "bucket", "key": "exports/x/manifest.jsonl"},
        "frames": frames,
        "bytes": 30,
    }


@pytest.mark.parametrize("version", [None, "", "../../frames", "1/2", "²", "1" * 11, True, 1.0, ["1"], {"1": 1}])
def test_event_without_a_valid_version_names_none(version):
    detail = {"datastoreId": DATASTORE, "imagesetId": IMAGE_SET, "imageSetVersion": version}
    event = {"detail-type": "Image Set Updated", "detail": detail}
    assert decode(json.dumps(event)) == ImageSetChanged("Updated", REF, None)


@pytest.mark.parametrize("version", ["7", 7, "007"])
def test_version_is_a_decimal_number(version):
    detail = {"datastoreId": DATASTORE, "imageSetId": IMAGE_SET, "imageSetVersion": version}
    assert decode(json.dumps({"detail-type": "Image Set Copied", "detail": detail})).version_id == "7"


@pytest.mark.parametrize("own", [["export"], {}, 1, True, "", "dance"], ids=str)
def test_message_of_an_unknown_kind_is_not_understood(own):
    with pytest.raises(UnknownMessageError):
        decode(json.dumps({"framegate": own, "detail-type": "Image Set Deleted", "detail": NAMES}))


@pytest.mark.parametrize(("_", "document"), FORMS, ids=[type(message).__name__ for message, _ in FORMS])
def test_message_that_lacks_a_member_is_not_understood(_, document):
    for name in document:
        with pytest.raises(UnknownMessageError):
            decode(json.dumps({key: value for key, value in document.items() if key != name}))


@pytest.mark.parametrize("kind", ["Created", "Deleted"])
def test_malformed_identifier_is_not_repeated(kind):
    detail = {"datastoreId": DATASTORE, "imagesetId": "Mueller^Hans"}
    with pytest.raises(UnknownMessageError) as error:
        decode(json.dumps({"detail-type": f"Image Set {kind}", "detail": detail}))
    assert "Mueller" not in str(error.value)


@pytest.mark.parametrize(
    "task",
    [
        None,
        [],
        "validate",
        {},
        {"task": "dance"},
        {"task": ["validate"]},
        {"task": "validate", "key": "k"},
        {"task": "export", "execution": "e", "request": {}, "progress": "", "final": False},
        {"task": "export", "execution": "e", "request": "line", "progress": "", "final": False},
        {"task": "summarize", "input": None},
        {"task": "summarize", "input": {"results": {}}},
    ],
    ids=str,
)
def test_document_that_is_no_task_is_not_understood(task):
    with pytest.raises(UnknownTaskError, match="of different releases"):
        decode_task(task)


# Hostile members


ORDER, _ = FORMS[0]
HOSTILE_MEMBERS = {
    "progress": [
        "",
        f"exports/{DATASTORE}/{IMAGE_SET}/version-1/manifest.jsonl",
        f"{PROGRESS}\n",
        f"{PROGRESS}/../../version-1/manifest.jsonl",
        PROGRESS.replace("progress/", "progress/../"),
        PROGRESS.replace(IMAGE_SET, "6" * 32),
        PROGRESS.upper(),
        7,
        [PROGRESS],
    ],
    "exportId": ["", "version-2", "version-latest", "version-1\n", "../version-1", "x/../version-1", "run-1-7", 1],
    "versionId": ["", "2", "1\n", "01", "-1", "1/2", "../1", "²", "1" * 11, 1, True, ["1"], None],
    "imageFrameIds": [[], [FRAME], "x"],
    "verify": ["true", 1, None],
}


@pytest.mark.parametrize(("name", "value"), [(name, each) for name, all_ in HOSTILE_MEMBERS.items() for each in all_])
def test_order_with_a_hostile_member_is_not_understood(name, value):
    with pytest.raises(UnknownMessageError) as error:
        decode(json.dumps({**ORDER.to_json(), name: value}))
    assert str(value) in ("", "1", "2", "x", "[]") or str(value) not in str(error.value)


@pytest.mark.parametrize("again", ["true", 1, 0, None, []])
def test_removal_with_another_flag_is_not_understood(again):
    with pytest.raises(UnknownMessageError):
        decode(json.dumps({**RemoveImageSet(REF, again=True).to_json(), "again": again}))


@pytest.mark.parametrize(
    "members",
    [
        {"execution": "../x"},
        {"execution": "run\n"},
        {"execution": ""},
        {"execution": "r" * 81},
        {"progress": f"exports/{DATASTORE}/{IMAGE_SET}/version-1/manifest.jsonl"},
        {"progress": PROGRESS.replace(IMAGE_SET, "6" * 32)},
        {"request": {**NAMES, "versionId": "1/2"}},
        {"request": {**NAMES, "versionId": "../1"}},
        {"line": "7"},
    ],
    ids=str,
)
def test_task_with_a_hostile_member_gives_no_order(members):
    task = {"execution": "run-1", "line": 7, "request": NAMES, "progress": None, "final": False, **members}
    with pytest.raises(UnknownTaskError):
        ExportTask(**task).order(verify=False)


def test_task_continues_from_the_progress_of_its_image_set():
    order = ExportTask("run-1.é", 7, {**NAMES, "versionId": "2"}, PROGRESS, final=False).order(verify=False)
    assert (order.export_id, order.version_id, order.progress) == ("run-1.é-7", "2", PROGRESS)
