"""Calls every route of DICOMweb once, for the instance of the frame that the other checks request."""

from __future__ import annotations

import gzip
import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

from smoke.deployment import HEALTH_IMAGING
from smoke.report import CheckFailedError, CheckSkippedError, expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from smoke.api_checks import ApiChecks

UNKNOWN_ID = "0" * 32

NOT_ACCEPTABLE, NOT_IMPLEMENTED = 406, 501

STUDY, SERIES, INSTANCE = "0020000D", "0020000E", "00080018"
"""Tags of the UIDs in DICOM JSON."""


class DicomWebChecks:
    """Checks of the DICOMweb routes, with GET and HEAD.

    Parameters
    ----------
    api : ApiChecks
        The checks of the other routes, which choose the frame and send the requests.
    """

    def __init__(self, api: ApiChecks) -> None:
        self._api = api

    def by_name(self) -> dict[str, Callable[[], str]]:
        """The checks, by the name of their line."""
        return {
            "GET …/studies": self.studies,
            "GET …/series": self.series,
            "GET …/instances": self.instances,
            "GET …/studies/{uid}/series": self.study_series,
            "GET …/studies/{uid}/instances": self.study_instances,
            "GET …/series/{uid}/instances": self.series_instances,
            "GET …/studies/{uid}/metadata": self.study_metadata,
            "GET …/series/{uid}/metadata": self.series_metadata,
            "GET …/instances/{uid}/metadata": self.instance_metadata,
            "GET …/instances/{uid}/frames/{list}": self.instance_frame,
            "GET …/instances/{uid}/bulkdata/{id}, unknown": self.unknown_bulk_data,
            "GET …/rendered": self.rendered,
            "GET …/thumbnail": self.thumbnails,
            "GET …/instances/{uid}, GET …/series/{uid}": self.dicom_files,
            "retrievals that are not supported": self.not_supported,
        }

    def studies(self) -> str:
        """``GET …/studies`` finds the study."""
        return self._expect_found(f"studies?StudyInstanceUID={self._uids[0]}", STUDY, self._uids[0])

    def series(self) -> str:
        """``GET …/series`` finds the series."""
        return self._expect_found(f"series?SeriesInstanceUID={self._uids[1]}", SERIES, self._uids[1])

    def instances(self) -> str:
        """``GET …/instances`` finds the instance."""
        return self._expect_found(f"instances?SOPInstanceUID={self._uids[2]}", INSTANCE, self._uids[2])

    def study_series(self) -> str:
        """``GET …/studies/{uid}/series`` finds the series."""
        study, series, _ = self._uids
        return self._expect_found(f"studies/{study}/series?SeriesInstanceUID={series}", SERIES, series)

    def study_instances(self) -> str:
        """``GET …/studies/{uid}/instances`` finds the instance."""
        study, _, instance = self._uids
        return self._expect_found(f"studies/{study}/instances?SOPInstanceUID={instance}", INSTANCE, instance)

    def series_instances(self) -> str:
        """``GET …/series/{uid}/instances`` finds the instance."""
        study, series, instance = self._uids
        path = f"studies/{study}/series/{series}/instances?SOPInstanceUID={instance}"
        return self._expect_found(path, INSTANCE, instance)

    def study_metadata(self) -> str:
        """``GET …/studies/{uid}/metadata`` returns the datasets of the study."""
        if not self._is_primary:
            raise CheckSkippedError("the image set is not primary, so its study may have no other")
        return self._expect_metadata(self._url(f"studies/{self._uids[0]}/metadata"))

    def series_metadata(self) -> str:
        """``GET …/series/{uid}/metadata`` returns the datasets of the series."""
        return self._expect_metadata(f"{self._series_url()}/metadata?imageSetId={self._api.frame.image_set_id}")

    def instance_metadata(self) -> str:
        """``GET …/instances/{uid}/metadata`` returns the dataset of the instance."""
        return self._expect_metadata(f"{self._instance_url()}/metadata?imageSetId={self._api.frame.image_set_id}")

    def instance_frame(self) -> str:
        """``GET …/instances/{uid}/frames/{list}`` returns what ``GetImageFrame`` returns."""
        number = self._entry["frameNumber"]
        url = f"{self._instance_url()}/frames/{number}?imageSetId={self._api.frame.image_set_id}"
        answer = self._api.follow(self._api.get(url))
        self._api.expect_whole(answer.content)
        self._api.expect_head(url)
        return f"{len(answer.content):,} bytes, identical to GetImageFrame; HEAD agrees"

    def unknown_bulk_data(self) -> str:
        """Unknown bulk data answers 404 with a problem document. Few image sets have any to request."""
        url = f"{self._instance_url()}/bulkdata/{UNKNOWN_ID}?imageSetId={self._api.frame.image_set_id}"
        self._api.expect_head(url)
        return self._api.expect_problem(url, 404, "instance-not-found")

    def rendered(self) -> str:
        """``GET …/rendered`` draws the frame as a JPEG, by UID and by id."""
        by_id = f"{self._api.frame_url()}/rendered"
        return self._expect_pictures(f"{self._instance_url()}/rendered", f"{self._frames_url()}/rendered", by_id)

    def thumbnails(self) -> str:
        """``GET …/thumbnail`` draws a small JPEG at each level, and by id."""
        resources = (self._url(f"studies/{self._uids[0]}"), self._series_url(), self._instance_url())
        by_uid = [f"{each}/thumbnail" for each in (*resources, self._frames_url())]
        return self._expect_pictures(*by_uid, f"{self._api.frame_url()}/thumbnail")

    def _expect_pictures(self, *urls: str) -> str:
        sizes = []
        for url in urls:
            answer = self._api.get(url, {"Accept": "image/jpeg"})
            if answer.status_code == NOT_ACCEPTABLE:
                raise CheckSkippedError(str(answer.json()["title"]))
            answer = self._api.follow(answer)
            expect("Content-Type", answer.headers["Content-Type"], "image/jpeg")
            expect("first bytes", answer.content[:2], b"\xff\xd8")
            self._api.expect_head(url)
            sizes.append(len(answer.content))
        return f"{len(urls)} JPEG pictures of {min(sizes):,} to {max(sizes):,} bytes; HEAD agrees"

    def dicom_files(self) -> str:
        """The instance and its series are DICOM files; without ``export_output=dicom``, they answer 501."""
        urls = [self._instance_url(), self._series_url()]
        if self._api.get(urls[0]).status_code == NOT_IMPLEMENTED:
            for url in urls:
                self._api.expect_problem(url, NOT_IMPLEMENTED, "not-supported")
                self._api.expect_head(url)
            return "501, not-supported, for both: export_output=dicom is not set"
        file, series = (self._api.follow(self._api.get(url)).content for url in urls)
        expect("prefix after the preamble", file[128:132], b"DICM")
        if file not in series:
            raise CheckFailedError("the body of the series lacks the file of the instance")
        for url in urls:
            self._api.expect_head(url)
        return f"a file of {len(file):,} bytes, and a series of {len(series):,} bytes; HEAD agrees"

    def not_supported(self) -> str:
        """DICOM files of a study, and pictures of studies and series, answer 501 with a problem document."""
        study, series = self._url(f"studies/{self._uids[0]}"), self._series_url()
        urls = [study, f"{study}/rendered", f"{series}/rendered"]
        for url in urls:
            self._api.expect_problem(url, 501, "not-supported")
            self._api.expect_head(url)
        return f"501, not-supported, for each of {len(urls)}"

    def _frames_url(self) -> str:
        return f"{self._instance_url()}/frames/{self._entry['frameNumber']}"

    @cached_property
    def _entry(self) -> dict[str, Any]:
        """The entry of the requested frame in the frame index."""
        frame_id = self._api.frame.image_frame_id
        return next(each for each in self._api.frames if each["imageFrameId"] == frame_id)

    @cached_property
    def _uids(self) -> tuple[str, str, str]:
        """The UIDs of the study, the series and the instance, from the metadata of HealthImaging itself."""
        frame = self._api.frame
        answer = self._api.deployment.client(HEALTH_IMAGING).get_image_set_metadata(
            datastoreId=frame.datastore_id, imageSetId=frame.image_set_id
        )
        study = json.loads(gzip.decompress(answer["imageSetMetadataBlob"].read()))["Study"]
        instance = self._entry["sopInstanceUID"]
        series = next(uid for uid, each in study["Series"].items() if instance in each["Instances"])
        return study["DICOM"]["StudyInstanceUID"], series, instance

    @cached_property
    def _is_primary(self) -> bool:
        """Whether searches find the image set. Older versions of HealthImaging's model do not say."""
        frame = self._api.frame
        found = self._api.deployment.client(HEALTH_IMAGING).get_image_set(
            datastoreId=frame.datastore_id, imageSetId=frame.image_set_id
        )
        return bool(found.get("isPrimary", True))

    def _url(self, path: str) -> str:
        return f"{self._api.deployment.api_url}/datastore/{self._api.frame.datastore_id}/{path}"

    def _series_url(self) -> str:
        study, series, _ = self._uids
        return self._url(f"studies/{study}/series/{series}")

    def _instance_url(self) -> str:
        return f"{self._series_url()}/instances/{self._uids[2]}"

    def _datasets(self, url: str) -> list[dict[str, Any]]:
        answer = self._api.follow(self._api.get(url))
        return list(answer.json())

    def _expect_found(self, path: str, tag: str, uid: str) -> str:
        """Check that a search finds a UID."""
        url = self._url(path)
        self._api.expect_head(url)
        records = self._datasets(url)
        if uid not in _values(records, tag):
            if not self._is_primary:
                raise CheckSkippedError("the image set is not primary, so searches omit it")
            raise CheckFailedError(f"{len(records)} results, none of which has the requested UID")
        return f"{len(records)} found, one with the requested UID; HEAD agrees"

    def _expect_metadata(self, url: str) -> str:
        datasets = self._datasets(url)
        expect("the instance is among the datasets", self._uids[2] in _values(datasets, INSTANCE), True)
        self._api.expect_head(url)
        return f"{len(datasets)} datasets; HEAD agrees"


def _values(datasets: list[dict[str, Any]], tag: str) -> set[str]:
    return {value for each in datasets for value in each.get(tag, {}).get("Value", [])}
