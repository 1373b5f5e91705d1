"""Makes requests idempotent by client token: a repeated request gets the first response and changes nothing."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from local.health_imaging.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class ClientTokens:
    """Remembers requests and their responses by client token."""

    def __init__(self) -> None:
        self._answered: dict[tuple[str, str], tuple[dict[str, Any], dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def answer_once(
        self,
        scope: str,
        request: Mapping[str, Any],
        act: Callable[[], dict[str, Any]],
        is_current: Callable[[dict[str, Any]], bool] = lambda _: True,
    ) -> dict[str, Any]:
        """Act on a request once per client token, and repeat the response afterwards.

        Parameters
        ----------
        scope : str
            The scope within which tokens are unique, such as an operation.
        request : mapping
            The members of the request, including ``clientToken``.
        act : callable
            Performs the request and returns its response.
        is_current : callable
            Tells whether an earlier response is still valid; if not, the token can be used again.

        Raises
        ------
        ServiceError
            ConflictException if an earlier request used the token with other members.
        """
        members = {name: value for name, value in request.items() if name != "clientToken"}
        key = (scope, request["clientToken"])
        with self._lock:
            earlier, answer = self._answered.get(key, ({}, None))
            if answer is None or not is_current(answer):
                answer = act()
                self._answered[key] = members, answer
            elif earlier != members:
                raise ServiceError("ConflictException", "The client token was used before with other parameters")
            return answer
