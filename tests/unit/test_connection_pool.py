"""Connections that die while a function is frozen, and the urllib3 internals on which the pool relies."""

from __future__ import annotations

import inspect
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from queue import LifoQueue

import pytest
import urllib3
from botocore.httpsession import get_cert_path
from urllib3.connection import HTTPConnection

from framegate.aws import clients, connections
from framegate.aws.connections import CONNECT_TIMEOUT_SECONDS, KEEPALIVE_IDLE_SECONDS, MAX_IDLE_SECONDS, Connections
from framegate.aws.event_bus import EventBus
from framegate.aws.export_queue import ExportQueue
from framegate.healthimaging.client import HealthImaging
from framegate.identifiers import FrameRef
from framegate.storage.object_store import ObjectStore
from framegate.time_budget import TimeBudget
from tests.unit.conftest import forget_clients
from tests.unit.scripted_server import Reply, ScriptedServer
from tests.unit.sessions import new_session

FRAME = FrameRef("d" * 32, "5" * 32, "f" * 32)
MAX_CALL_SECONDS = 0.5
"""A call over a dead connection would take ten seconds, the silence timeout."""


def answer(request):
    if "amz-target" in " ".join(request.headers):
        return Reply(headers={"Content-Type": "application/x-amz-json-1.1"}, body=b'{"FailedEntryCount": 0}')
    if request.method == "DELETE":
        return Reply(204)
    return Reply(headers={"Content-Type": "image/jph", "ETag": '"e"'}, body=b"" if request.method == "PUT" else b"x")


@pytest.fixture
def server(monkeypatch):
    forget_clients()
    with ScriptedServer(answer) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
        yield running
    forget_clients()


@pytest.fixture
def freeze(server, monkeypatch):
    """Freeze the function for some seconds: the wall clock moves on, the monotonic clock stands still.

    Afterwards, the old connections are dead, without a FIN or RST from the server.
    """

    def freeze(seconds):
        dead = server.connections
        server.reply = lambda request: Reply(silent=True) if request.connection <= dead else answer(request)
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + seconds)

    return freeze


def frames():
    source = HealthImaging(new_session())
    return lambda: source.fetch(FRAME, lambda stream: b"".join(stream), TimeBudget(20), attempts=1)


def objects_and(use):
    def prepare():
        threads = ThreadPoolExecutor(2)
        objects = ObjectStore(new_session(), clients.s3, "bucket", threads)
        return lambda: use(objects)

    return prepare


CALLS = {
    "GetImageFrame": frames,
    "PutObject": objects_and(lambda objects: objects.put("key", "a/b", [b"content"], TimeBudget(20))),
    "PutObject if none exists": objects_and(
        lambda objects: objects.put_if_unchanged("key", b"{}", None, TimeBudget(20))
    ),
    "PutObject if unchanged": objects_and(
        lambda objects: objects.put_if_unchanged("key", b"{}", '"e"', TimeBudget(20))
    ),
    "GetObject": objects_and(lambda objects: b"".join(objects.read("key", TimeBudget(20)))),
    "DeleteObject": objects_and(lambda objects: objects.remove("key", TimeBudget(20))),
    "SendMessage": lambda: lambda: ExportQueue(clients.sqs, "https://sqs.us-east-1.amazonaws.com/1/q").send("{}"),
    "PutEvents": lambda: lambda: EventBus(clients.events, "default").announce("type", {}),
}


@pytest.mark.parametrize("name", CALLS)
def test_connection_that_died_during_a_freeze_does_not_delay_the_next_call(server, freeze, name):
    call = CALLS[name]()
    for _ in range(2):
        call()
    used, requests = server.connections, len(server.requests)
    freeze(60)
    began = time.monotonic()
    call()
    assert time.monotonic() - began < MAX_CALL_SECONDS
    # One request over a new connection: none was lost, and none was sent twice.
    assert [each.connection for each in server.requests[requests:]] == [used + 1]


@pytest.mark.parametrize("name", CALLS)
def test_connections_are_reused_after_a_short_pause(server, freeze, monkeypatch, name):
    call = CALLS[name]()
    call()
    used = server.connections
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + MAX_IDLE_SECONDS / 2)
    call()
    assert server.requests[-1].connection <= used == server.connections


def test_connection_opened_ahead_that_died_during_a_freeze_does_not_delay_the_next_call(server, freeze):
    source = HealthImaging(new_session())
    assert source.fetch(FRAME, lambda stream: b"".join(stream), TimeBudget(20)) == b"x"
    server.reply = lambda _: Reply(body=bytes(1_000_000))
    assert source.fetch(FRAME, lambda stream: stream.read(10), TimeBudget(20), in_part=True) == bytes(10)
    deadline = time.monotonic() + 5
    while server.connections < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    freeze(60)
    began = time.monotonic()
    assert source.fetch(FRAME, lambda stream: b"".join(stream), TimeBudget(20), attempts=1) == b"x"
    assert time.monotonic() - began < MAX_CALL_SECONDS
    assert server.requests[-1].connection == 3


def test_connections_are_replaced_after_the_wall_clock_was_set_back(server, freeze):
    call = frames()
    call()
    freeze(-60)
    assert call() == b"x"
    assert server.requests[-1].connection == 2


def test_all_connections_of_an_sdk_client_are_replaced(server, freeze):
    threads = ThreadPoolExecutor(4)
    s3 = clients.s3()
    read = lambda _: s3.get_object(Bucket="bucket", Key="key")["Body"].read()  # noqa: E731
    list(threads.map(read, range(8)))
    freeze(60)
    began = time.monotonic()
    assert list(threads.map(read, range(8))) == [b"x"] * 8
    assert time.monotonic() - began < 2 * MAX_CALL_SECONDS


def test_operating_system_closes_a_connection_whose_peer_is_silent(server):
    pool = Connections(get_cert_path(True), max_connections=1, send_timeout_seconds=CONNECT_TIMEOUT_SECONDS)
    pool.request("GET", f"{server.url}/", {}, b"", 5, 5).read()
    (connection,) = pool._pools[server.url.removeprefix("http://")]._idle.queue
    option = connection.sock.getsockopt
    assert option(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert option(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        assert option(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == CONNECT_TIMEOUT_SECONDS * 1000
        assert option(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == KEEPALIVE_IDLE_SECONDS


PRIVATE = {
    "_get_conn": "(self, timeout: 'float | None' = None) -> 'BaseHTTPConnection'",
    "_put_conn": "(self, conn: 'BaseHTTPConnection | None') -> 'None'",
    "_new_conn": "(self) -> 'BaseHTTPConnection'",
    "_validate_conn": "(self, conn: 'BaseHTTPConnection') -> 'None'",
}
"""Private methods of urllib3's pool that ours calls or overrides."""


def test_private_hooks_of_urllib3_have_the_expected_signatures():
    for name, signature in PRIVATE.items():
        assert str(inspect.signature(getattr(urllib3.HTTPConnectionPool, name))) == signature


def test_urllib3_calls_each_hook_as_often_as_the_pool_expects():
    calls = {name: [] for name in PRIVATE}

    def recording(name):
        def method(self, *arguments, **options):
            calls[name].append(name)
            return getattr(urllib3.HTTPConnectionPool, name)(self, *arguments, **options)

        return method

    pool_class = type("Recording", (urllib3.HTTPConnectionPool,), {name: recording(name) for name in PRIVATE})
    with ScriptedServer() as server:
        pool = pool_class("127.0.0.1", server.server_port, retries=False)
        for _ in range(2):
            pool.request("GET", "/")
    assert {name: len(each) for name, each in calls.items()} == {
        "_get_conn": 2,
        "_put_conn": 2,
        "_new_conn": 1,
        "_validate_conn": 2,
    }


def test_pool_uses_no_other_private_name_of_urllib3():
    source = inspect.getsource(connections)
    theirs = {
        name
        for each in (urllib3.HTTPConnectionPool, urllib3.HTTPSConnectionPool, urllib3.PoolManager, HTTPConnection)
        for name in dir(each)
        if name.startswith("_") and not name.startswith("__")
    }
    assert set(re.findall(r"\.(_[a-z]\w*)|def (_[a-z]\w*)", source)) != set()
    used = {name for pair in re.findall(r"\.(_[a-z]\w*)|def (_[a-z]\w*)", source) for name in pair if name}
    assert used & theirs == set(PRIVATE)


def test_public_parts_of_urllib3_are_as_the_pool_expects():
    pool = urllib3.HTTPConnectionPool("127.0.0.1", 1, maxsize=3)
    # Last in, first out; None stands for a connection that does not exist yet.
    assert isinstance(pool.pool, LifoQueue)
    assert pool.pool.queue == [None] * 3
    assert isinstance(urllib3.PoolManager().pool_classes_by_scheme, dict)
    assert {"is_closed", "is_connected", "connect", "close"} <= set(dir(HTTPConnection))
    connection = pool._new_conn()
    assert connection.is_closed
    assert (connection.sock, hasattr(connection, "timeout")) == (None, True)
