"""A confined process that does not do its task: the exchange ends in time, and the next one starts another process."""

from __future__ import annotations

import time

import pytest

from framegate.processes.confined import ConfinedProcess

ANSWER_BYTES = 10

FAILING = {
    "never reads": "import time; time.sleep(60)",
    "stops in the middle of its answer": "import os, time; os.read(0, 10); os.write(1, b'abc'); time.sleep(60)",
    "sends its answer byte by byte": "import os, time\nwhile True: os.write(1, b'a'); time.sleep(0.1)",
    "ends at once": "",
    "ends in the middle of its answer": "import os; os.read(0, 10); os.write(1, b'abc')",
}
WORKING = "import os\nwhile os.read(0, 65536): os.write(1, bytes(10))"


@pytest.fixture
def program(tmp_path):
    return tmp_path / "program.py"


@pytest.fixture
def process(program):
    running = ConfinedProcess(program, memory_bytes=0, max_seconds=0.5)
    yield running
    running.stop()


def exchange(process, size, seconds=60):
    def receive(channel):
        answer = channel.read(ANSWER_BYTES)
        return answer if len(answer) == ANSWER_BYTES else None

    return process.exchange(lambda channel: channel.write(b"", bytes(size), b"end"), receive, seconds)


@pytest.mark.parametrize("task_bytes", [10, 1_000_000])
@pytest.mark.parametrize("code", FAILING.values(), ids=FAILING)
def test_failing_process_is_replaced_in_time(process, program, code, task_bytes):
    program.write_text(code)
    started = time.monotonic()
    assert exchange(process, task_bytes) is None
    assert time.monotonic() - started < 5
    program.write_text(WORKING)
    assert exchange(ConfinedProcess(program, 0, 60), 10) == bytes(ANSWER_BYTES)


def test_time_of_a_task_can_be_shorter_than_that_of_the_process(program):
    program.write_text(FAILING["never reads"])
    started = time.monotonic()
    assert exchange(ConfinedProcess(program, 0, 60), 10, seconds=0.2) is None
    assert time.monotonic() - started < 5


def test_error_of_the_sender_is_passed_on_and_ends_the_process(process, program):
    program.write_text(WORKING)

    def send(channel):
        channel.write(b"the beginning")
        raise ValueError("the rest is missing")

    with pytest.raises(ValueError, match="the rest is missing"):
        process.exchange(send, lambda channel: channel.read(1), 60)
    assert process._process is None
