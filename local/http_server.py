"""The HTTP server of the local cloud's parts."""

from __future__ import annotations

import sys
from http.server import ThreadingHTTPServer
from typing import Any


class LoopbackServer(ThreadingHTTPServer):
    """A server that prints nothing about clients which close their connections, as browsers do."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print every error but a closed connection."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)
