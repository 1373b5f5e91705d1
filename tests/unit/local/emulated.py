"""What the tests of the emulator share."""

import gzip
import json
from pathlib import Path

import boto3
import pydicom
from botocore.config import Config
from pydicom.data import get_testdata_file

SIGNED = {"Authorization": "AWS4-HMAC-SHA256 anything"}


def new_client(url):
    config = Config(inject_host_prefix=False, retries={"total_max_attempts": 1}, read_timeout=5)
    return boto3.client("medical-imaging", endpoint_url=url, config=config)


class Bus:
    """Takes events as EventBridge does."""

    def __init__(self):
        self.taken = []

    def put_events(self, Entries):  # noqa: N803 - boto3's spelling
        self.taken += [(each["DetailType"], json.loads(each["Detail"])) for each in Entries]
        return {"FailedEntryCount": 0, "Entries": [{}]}

    def of_image_set(self, image_set_id):
        """Detail type, version, state and workflow status of each event of an image set."""
        return [
            (name, detail["imageSetVersion"], detail["imageSetState"], detail["imageSetWorkflowStatus"])
            for name, detail in self.taken
            if detail.get("imagesetId") == image_set_id
        ]


def metadata_of(boto, datastore_id, image_set_id, **version):
    answer = boto.get_image_set_metadata(datastoreId=datastore_id, imageSetId=image_set_id, **version)
    return json.loads(gzip.decompress(answer["imageSetMetadataBlob"].read()))


def series_of(metadata):
    (series,) = metadata["Study"]["Series"].values()
    return series


def dicom_file(folder, **attributes):
    """A CT file with some attributes changed."""
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    path = Path(folder) / f"{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path)
    return path
