"""The exceptions that HealthImaging answers with."""

from __future__ import annotations


class ServiceError(Exception):
    """One of the service's exceptions, to be answered to the client."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
