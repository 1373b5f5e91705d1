"""Client tokens, which make requests idempotent: a repeated request gets the first answer and changes nothing."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from local.health_imaging.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class ClientTokens:
    """Remembers requests by their client tokens."""

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
        """Answer a request, or repeat the answer that its client token had.

        Parameters
        ----------
        scope : str
            Where the token is unique.
        request : mapping
            The members of the request; one is ``clientToken``.
        act : callable
            Does what is asked and returns the answer.
        is_current : callable
            Whether an earlier answer still holds; if not, its token is free again.

        Raises
        ------
        ServiceError
            ConflictException if the token came with other members before.
        """
        members = {name: value for name, value in request.items() if name != "clientToken"}
        key = (scope, request["clientToken"])
        with self._lock:
            earlier, answer = self._answered.get(key, ({}, None))
            if answer is None or not is_current(answer):
                answer = act()
                self._answered[key] = members, answer
            elif earlier != members:
                raise ServiceError("ConflictException", "The client token was used with other parameters")
            return answer
