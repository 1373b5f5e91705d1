"""Connections to HealthImaging over TLS: when they are kept, closed and opened ahead."""

from __future__ import annotations

import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from framegate.aws import clients
from framegate.aws.trust import tls_context
from framegate.healthimaging.client import MAX_DRAIN_BYTES, HealthImaging
from framegate.identifiers import FrameRef
from framegate.problems import UpstreamFailed, UpstreamTimeout
from framegate.time_budget import TimeBudget
from local.certificates import write_certificate
from tests.unit.conftest import forget_clients
from tests.unit.sessions import new_session

FRAME = FrameRef("d" * 32, "5" * 32, "f" * 32)
SIZE = 4 * MAX_DRAIN_BYTES


class Service(ThreadingHTTPServer):
    """Answers every request with the same frame, and records the connection of each."""

    daemon_threads = True

    def __init__(self, context):
        super().__init__(("127.0.0.1", 0), Conversation)
        self.context = context
        self.url = f"https://127.0.0.1:{self.server_port}"
        self.idle_timeout, self.handshake_time, self.stall = 30.0, 0.0, None
        self.connections, self.requests, self.closed = 0, [], threading.Event()

    def handle_error(self, *_):
        """Ignore connections that the tests break."""


class Conversation(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        # Count before the handshake, after which the client may already check the count.
        self.server.connections += 1
        self._number = self.server.connections
        self.timeout = self.server.idle_timeout
        time.sleep(self.server.handshake_time)
        self.request = self.server.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.requests.append(self._number)
        self.send_response(200)
        self.send_header("Content-Type", "image/jph")
        self.send_header("Content-Length", str(SIZE))
        self.end_headers()
        stall = self.server.stall
        if stall is None:
            self.wfile.write(bytes(SIZE))
        else:
            before, seconds, after = stall
            self.wfile.write(bytes(SIZE - before - 1))
            time.sleep(seconds)
            self.wfile.write(bytes(before))
            time.sleep(after)

    def do_GET(self):
        self.do_POST()

    def finish(self):
        super().finish()
        self.request.close()
        if self.timeout < 1:
            self.server.closed.set()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificate")
    write_certificate(folder / "certificate.pem", folder / "key.pem")
    return folder / "certificate.pem", folder / "key.pem"


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
def service(request, certificate, monkeypatch):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = context.maximum_version = request.param
    context.load_cert_chain(*certificate)
    running = Service(context)
    threading.Thread(target=running.serve_forever, args=[0.02], daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_MEDICAL_IMAGING", running.url)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate[0]))
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def source(service):
    return HealthImaging(new_session())


def read(source, max_bytes=None):
    """Read the frame, or some of its bytes; the rest is then too long to drain."""
    part = max_bytes is not None
    return source.fetch(
        FRAME,
        lambda stream: stream.read(max_bytes) if part else b"".join(stream),
        TimeBudget(10),
        attempts=1,
        in_part=part,
    )


def being_opened():
    return [thread for thread in threading.enumerate() if thread.name == "connect-ahead"]


def wait_for_connection_ahead():
    for thread in being_opened():
        thread.join()


def test_fully_read_frames_share_a_connection(source, service):
    for _ in range(3):
        assert len(read(source)) == SIZE
    assert service.requests == [1, 1, 1]


def test_connection_for_the_next_request_opens_during_a_partial_read(source, service):
    assert len(read(source)) == SIZE
    for lost in range(1, 4):
        assert read(source, 10) == bytes(10)
        wait_for_connection_ahead()
        assert service.connections == lost + 1
    assert len(read(source)) == SIZE
    # No request had to wait for a new connection, and none used a closed one.
    assert service.connections == 4
    assert len(set(service.requests[1:])) == 4


def test_connection_opened_ahead_is_not_used_after_the_service_closed_it(source, service):
    assert len(read(source)) == SIZE
    service.idle_timeout = 0.05
    read(source, 10)
    wait_for_connection_ahead()
    service.idle_timeout = 30.0
    assert service.closed.wait(10)
    assert len(read(source)) == SIZE
    assert (service.requests[-1], service.connections) == (3, 3)


def test_only_one_connection_is_opened_ahead(source, service):
    assert len(read(source)) == SIZE
    for _ in range(3):
        # A full read keeps both its own connection and the one that was opened ahead.
        source.fetch(FRAME, lambda stream: b"".join(stream), TimeBudget(10), in_part=True)
        wait_for_connection_ahead()
    assert service.connections == 2


def test_connection_is_not_opened_twice_during_its_handshake(source, service, caplog):
    assert len(read(source)) == SIZE
    service.handshake_time = 0.2
    for _ in range(3):
        assert read(source, 10) == bytes(10)
        assert len(being_opened()) <= 1
    wait_for_connection_ahead()
    opened = service.connections
    for _ in range(3):
        assert len(read(source)) == SIZE
    assert service.connections == opened
    # urllib3 would log a warning if the pool were full.
    assert caplog.records == []


@pytest.fixture
def bundle(certificate, tmp_path, monkeypatch):
    """A bundle of certificates that the test can remove: whoever parses it again fails."""
    path = tmp_path / "trusted.pem"
    path.write_bytes(certificate[0].read_bytes())
    monkeypatch.setenv("AWS_CA_BUNDLE", str(path))
    return path


def test_certificates_are_parsed_once_for_all_connections_to_healthimaging(service, bundle):
    source = HealthImaging(new_session())
    assert len(read(source)) == SIZE
    bundle.unlink()
    for _ in range(2):
        assert read(source, 10) == bytes(10)
        wait_for_connection_ahead()
    assert len(read(HealthImaging(new_session()))) == SIZE
    assert service.connections == 4


def test_certificates_are_parsed_once_for_all_connections_of_sdk_clients(service, bundle, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", service.url)
    forget_clients()
    s3 = clients.s3()
    for _ in range(2):
        assert len(s3.get_object(Bucket="bucket", Key="key")["Body"].read()) == SIZE
        s3.close()
        bundle.unlink(missing_ok=True)
    forget_clients()
    assert service.connections == 2
    # The SDK has no setting for the context, so a new version can keep it elsewhere.
    assert s3._endpoint.http_session._manager.connection_pool_kw["ssl_context"] is tls_context()


def test_unknown_certificate_is_refused(service, tmp_path, monkeypatch):
    write_certificate(tmp_path / "another.pem", tmp_path / "another.key")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "another.pem", tmp_path / "another.key")
    service.context = context
    with pytest.raises(UpstreamFailed):
        read(HealthImaging(new_session()))
    assert service.requests == []


def test_certificate_of_another_host_is_refused(service, monkeypatch):
    # A spelling of 127.0.0.1 that the certificate does not have.
    another_host = service.url.replace("127.0.0.1", "127.1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_MEDICAL_IMAGING", another_host)
    with pytest.raises(UpstreamFailed):
        read(HealthImaging(new_session()))
    assert (service.connections, service.requests) == (1, [])


def test_late_silence_ends_with_the_time_budget(source, service):
    # The read timeout of ten seconds starts with the last bytes, which arrive halfway through the budget.
    service.stall = (SIZE // 2, 1.0, 9.0)
    began = time.monotonic()
    with pytest.raises(UpstreamTimeout):
        source.fetch(FRAME, lambda stream: b"".join(stream), TimeBudget(2), attempts=1)
    assert time.monotonic() - began < 6


def test_draining_does_not_wait_for_a_stalled_body(source, service):
    service.stall = (MAX_DRAIN_BYTES // 2, 6.0, 0)
    began = time.monotonic()
    wanted = SIZE - MAX_DRAIN_BYTES
    assert len(source.fetch(FRAME, lambda stream: read_so_many(stream, wanted), TimeBudget(20))) == wanted
    assert time.monotonic() - began < 4


def read_so_many(stream, size):
    content = b""
    while len(content) < size:
        content += stream.read(size - len(content))
    return content


def test_failure_to_connect_ahead_does_not_fail_the_request(source, service):
    assert len(read(source)) == SIZE
    # A server that is still listening would accept one more connection and reset it.
    service.shutdown()
    service.socket.close()
    assert read(source, 10) == bytes(10)
    wait_for_connection_ahead()
    assert service.requests == [1, 1]
