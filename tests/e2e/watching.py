"""Helpers to observe a deployment with boto3: the bucket, the queues, the logs, and waiting."""

from __future__ import annotations

import json
import time
import uuid

TIMEOUT_SECONDS = 120


def wait_for(condition, timeout_seconds=TIMEOUT_SECONDS):
    """Call the condition until its result is true, and return the result."""
    deadline = time.monotonic() + timeout_seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.2)
    return result


def log_messages(cloud, function=None, since=0):
    """Yield what a function, or every log group, has logged since a time in seconds since 1970."""
    logs = cloud.client("logs")
    pages = logs.get_paginator("describe_log_groups").paginate()
    names = [group["logGroupName"] for page in pages for group in page["logGroups"]]
    if function is not None:
        (name,) = [name for name in names if function in name]
        names = [name]
    for name in names:
        start, seen = int(since * 1000), set()
        # MiniStack returns the first 10,000 events, and no token for the rest.
        while True:
            events = logs.filter_log_events(logGroupName=name, startTime=start)["events"]
            fresh = [each for each in events if (each["timestamp"], each["message"]) not in seen]
            if not fresh:
                break
            yield from (each["message"] for each in fresh)
            seen.update((each["timestamp"], each["message"]) for each in fresh)
            start = events[-1]["timestamp"]


class Bucket:
    """The bucket of the deployment."""

    def __init__(self, s3, name):
        self.s3, self.name = s3, name

    def listed(self, prefix=""):
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return {each["Key"] for page in pages for each in page.get("Contents", [])}

    def read(self, key):
        return self.s3.get_object(Bucket=self.name, Key=key)["Body"].read()

    def lines(self, key):
        return [json.loads(line) for line in self.read(key).splitlines()]

    def frames(self, frame):
        """The keys of the stored frames in the image set of a frame."""
        return self.listed(f"frames/{frame.datastore_id}/{frame.image_set_id}/")

    def head(self, frame):
        key = f"frames/{frame.datastore_id}/{frame.image_set_id}/{frame.image_frame_id}"
        return self.s3.head_object(Bucket=self.name, Key=key)

    def where(self, frame):
        """The prefixes that have a copy of a frame: ``frames``, ``mismatched``, neither or both."""
        path = f"/{frame.datastore_id}/{frame.image_set_id}/{frame.image_frame_id}"
        return {prefix for prefix in ("frames", "mismatched") if self.listed(prefix + path)}

    def manifest(self, frame, export_id="version-1"):
        """The manifest of the image set of a frame; None if there is none."""
        key = f"exports/{frame.datastore_id}/{frame.image_set_id}/{export_id}/manifest.jsonl"
        return self.lines(key) if self.listed(key) else None

    def uploads(self):
        return self.s3.list_multipart_uploads(Bucket=self.name).get("Uploads", [])

    def put_request(self, *lines):
        """Put a request manifest into the bucket; return the prefix of its results."""
        name = f"{uuid.uuid4()}.jsonl"
        body = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
        self.s3.put_object(Bucket=self.name, Key=f"export-requests/{name}", Body=body.encode())
        return f"exports/requests/{name}/"

    def results(self, prefix):
        """The summary of a request and its folder; None if there is no summary yet."""
        found = [key for key in self.listed(prefix) if key.endswith("/summary.json")]
        return (json.loads(self.read(found[0])), found[0].removesuffix("summary.json")) if found else None


class Queue:
    """A queue of the deployment."""

    COUNTS = (
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesDelayed",
    )

    def __init__(self, sqs, url):
        self.sqs, self.url = sqs, url

    def is_empty(self):
        attributes = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=self.COUNTS)["Attributes"]
        return not any(int(attributes[name]) for name in self.COUNTS)

    def send(self, document):
        self.sqs.send_message(QueueUrl=self.url, MessageBody=json.dumps(document))

    def receive(self):
        messages = self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages", [])
        for message in messages:
            self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return messages

    def set(self, **attributes):
        self.sqs.set_queue_attributes(QueueUrl=self.url, Attributes=attributes)

    def get(self, name):
        return self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=[name])["Attributes"][name]
