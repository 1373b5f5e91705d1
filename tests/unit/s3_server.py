"""Serves moto's S3 over HTTP, with the objects of its mock and with faults that a test sets."""

from __future__ import annotations

import io
import logging
import threading
import time
from contextlib import contextmanager
from urllib.parse import parse_qs

from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

OPERATIONS = {
    "PUT": {"partNumber": "UploadPart", "tagging": "PutObjectTagging", "": "PutObject"},
    "POST": {"uploads": "CreateMultipartUpload", "delete": "DeleteObjects", "": "CompleteMultipartUpload"},
    "GET": {"list-type": "ListObjectsV2", "": "GetObject"},
    "HEAD": {"": "HeadObject"},
    "DELETE": {"uploadId": "AbortMultipartUpload", "": "DeleteObject"},
}
"""S3 operations by method and by query parameter."""

ERROR = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>no</Message></Error>'


class S3Server:
    """Serves moto's S3 on loopback while its ``with`` block lasts.

    Attributes
    ----------
    url : str
        The endpoint.
    """

    def __init__(self):
        # Without the dispatcher, which looks for the service of each request among all services.
        self._moto = create_backend_app("s3")
        self._faults = []
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True, request_handler=_Handler)
        # Open connections must not delay the end of the tests.
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.port}"

    def __enter__(self):
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def counting(self, operation):
        """Record the calls of an operation; yield the list of calls."""
        return self._failing(operation, self._moto, times=0)

    def refusing(self, operation, status, code, *, after=0, times=None):
        """Make S3 reject `times` calls of an operation after the first `after` calls."""

        def refuse(environ, start_response):
            body = b"" if environ["REQUEST_METHOD"] == "HEAD" else ERROR.format(code=code).encode()
            start_response(f"{status} No", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [body]

        return self._failing(operation, refuse, after, times)

    def silent(self, operation, seconds):
        """Delay the calls of an operation by this many seconds."""

        def sleep(environ, start_response):
            time.sleep(seconds)
            return self._moto(environ, start_response)

        return self._failing(operation, sleep)

    def breaking_off(self, operation, *, times=None):
        """Make S3 close the connection of `times` calls, without performing the operation."""

        def close(environ, _):
            environ["werkzeug.socket"].shutdown(2)
            return []

        return self._failing(operation, close, times=times)

    def answering_nothing(self, operation, *, times=None):
        """Make S3 perform `times` calls of an operation, and close the connection instead of responding."""

        def do_and_close(environ, _):
            list(self._moto(environ, lambda *_: None))
            environ["werkzeug.socket"].shutdown(2)
            return []

        return self._failing(operation, do_and_close, times=times)

    @contextmanager
    def _failing(self, operation, answer, after=0, times=None):
        calls = []

        def fault(environ, start_response):
            calls.append(operation)
            fails = len(calls) > after and (times is None or len(calls) <= after + times)
            return (answer if fails else self._moto)(environ, start_response)

        self._faults.append((operation, fault))
        try:
            yield calls
        finally:
            self._faults.remove((operation, fault))

    def _serve(self, environ, start_response):
        query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
        operations = OPERATIONS[environ["REQUEST_METHOD"]]
        operation = next(name for key, name in operations.items() if not key or key in query)
        for failing, fault in self._faults:
            if failing == operation:
                # Read the whole body, because the rest would be parsed as the next request.
                content = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                environ["wsgi.input"] = io.BytesIO(content)
                return fault(environ, start_response)
        return self._moto(environ, start_response)


class _Handler(MotoRequestHandler):
    protocol_version = "HTTP/1.1"
