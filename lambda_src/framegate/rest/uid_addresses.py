"""Reads the UIDs in a request's path, and finds the image sets that they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from framegate.dicomweb.uids import SeriesAddress, StudyAddress
from framegate.problems import DatastoreNotServed
from framegate.rest import routes
from framegate.rest.access_check import require_access

if TYPE_CHECKING:
    from collections.abc import Collection

    from framegate.access.decision import Action
    from framegate.access.image_sets import ImageSetAccess
    from framegate.dicomweb.studies import StudyDirectory
    from framegate.dicomweb.study_lists import ImageSetVersion
    from framegate.rest.exchange import Exchange

_OF_SUBJECT = ("image_set_id", "version_id", "decision", "decisionReason")
"""The log fields that differ between the image sets of a request."""


class UidAddresses:
    """The studies and series that requests name, and their image sets.

    Parameters
    ----------
    datastore_ids : collection of str
        The data stores that the deployment serves.
    access : ImageSetAccess
        Decides who may read an image set.
    studies : StudyDirectory
        Finds the image sets of a series.
    """

    def __init__(self, datastore_ids: Collection[str], access: ImageSetAccess, studies: StudyDirectory) -> None:
        self._datastore_ids = datastore_ids
        self._access = access
        self._studies = studies

    def study(self, exchange: Exchange) -> StudyAddress:
        """Read the study in the path.

        Raises
        ------
        InvalidRequest, DatastoreNotServed
            If the identifier or the UID is malformed, or the data store is not served.
        """
        path = exchange.request.path
        address = StudyAddress(path["datastoreId"], path[routes.STUDY_UID.name])
        self.require_served(exchange, address.datastore_id)
        return address

    def series(self, exchange: Exchange) -> SeriesAddress:
        """Read the series in the path, and the image set in the query; see `study` for errors."""
        request = exchange.request
        image_set_id = request.query(routes.IMAGE_SET_ID_IN_QUERY.name)
        return SeriesAddress(self.study(exchange), request.path[routes.SERIES_UID.name], image_set_id)

    def image_sets(self, exchange: Exchange, series: SeriesAddress, action: Action) -> tuple[ImageSetVersion, ...]:
        """Find the image sets of a series, and check that the caller may read them.

        Raises
        ------
        InstanceNotFound
            If there is no such series.
        Problem
            As `require_access` and `StudyDirectory.image_sets` raise it.
        """
        image_sets = self._studies.image_sets(series, exchange.budget)
        for each in image_sets:
            # A refusal names the image set that is not granted.
            exchange.record.update(image_set_id=each.image_set.image_set_id, version_id=each.version_id)
            require_access(exchange, self._access, each.image_set, action)
            exchange.subjects.append({name: exchange.record[name] for name in _OF_SUBJECT if name in exchange.record})
        return image_sets

    def require_served(self, exchange: Exchange, datastore_id: str) -> None:
        """Raise DatastoreNotServed unless the deployment serves the data store."""
        exchange.record.update(datastore_id=datastore_id)
        if datastore_id not in self._datastore_ids:
            raise DatastoreNotServed
