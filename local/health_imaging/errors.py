"""Defines the exception that becomes an error response."""

from __future__ import annotations


class ServiceError(Exception):
    """An exception of the service's API, which the server sends to the client."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
