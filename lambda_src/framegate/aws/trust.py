"""The certificates that connections trust, parsed once for all of them.

OpenSSL takes 20 to 30 ms to parse the SDK's certificates. urllib3 and the SDK parse them again for each connection,
even if connections share an `ssl.SSLContext` (urllib3 issue 3623, botocore issue 3171).
"""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from botocore.httpsession import get_cert_path
from urllib3.util.ssl_ import create_urllib3_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from botocore.client import BaseClient
    from botocore.session import Session


def ca_certs(session: Session) -> str:
    """Return the path of the certificates that the SDK trusts."""
    path: str = get_cert_path(session.get_config_variable("ca_bundle") or True)  # type: ignore[assignment]
    return path


def load_early(session: Session) -> threading.Thread:
    """Load the certificates in a thread, while the function starts, and return the thread."""
    context, path = tls_context(), ca_certs(session)

    def load() -> None:
        # A connection fails for the same reason, and reports it.
        with suppress(OSError):
            context.load_verify_locations(path)

    thread = threading.Thread(target=load, name="load-certificates", daemon=True)
    thread.start()
    return thread


@cache
def tls_context() -> ssl.SSLContext:
    """Return the TLS settings of all connections. The first connection loads the certificates."""
    context = create_urllib3_context()
    once: Any = _Once(context.load_verify_locations)
    context.load_verify_locations = once  # type: ignore[method-assign]
    return context


def share_context(client: BaseClient) -> None:
    """Make an SDK client use `tls_context`, too.

    The SDK has no setting for it. With a version of botocore that keeps its connections elsewhere, nothing changes.
    ``tests/unit/test_connections.py`` names the internals.
    """
    manager = getattr(getattr(getattr(client, "_endpoint", None), "http_session", None), "_manager", None)
    settings = getattr(manager, "connection_pool_kw", {})
    if "ssl_context" in settings:
        settings["ssl_context"] = tls_context()


class _Once:
    """Loads each bundle of certificates once, and then trusts all that it has loaded."""

    def __init__(self, load: Callable[..., None]) -> None:
        self._load = load
        self._loaded: set[tuple[Any, ...]] = set()
        self._loading = threading.Lock()

    def __call__(self, cafile: str | None = None, capath: str | None = None, cadata: str | None = None) -> None:
        source = (cafile, capath, cadata)
        with self._loading:
            if source not in self._loaded:
                self._load(*source)
                self._loaded.add(source)
