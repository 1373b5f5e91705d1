"""Runs the commands of the local cloud as a user does."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

PROJECT = Path(__file__).parent.parent.parent


@pytest.fixture
def serving():
    """The running process of ``make serve``, and what it has printed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "local.serve"], cwd=PROJECT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    lines = []
    while not lines or "Ctrl-C" not in lines[-1]:
        line = process.stdout.readline()
        assert line, "the process ended before it served"
        lines.append(line)
    yield process, "".join(lines)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()


def test_serve_prints_working_curl_lines_and_stops_every_process(cloud, serving, tmp_path):
    process, printed = serving
    curls = re.findall(r"^curl .*$", printed, re.MULTILINE)
    answers = [
        subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        for line in curls
    ]
    assert len(answers) == 10
    assert (tmp_path / "frame.jph").stat().st_size == int(grouped(printed, r"# a frame of ([\d,]+) bytes\n"))
    assert (tmp_path / "large.jph").stat().st_size == int(grouped(printed, r"# a frame of ([\d,]+) bytes:"))
    assert "framegate-resolution: " in answers[1].lower()
    assert 0 < (tmp_path / "thumbnail.jph").stat().st_size < (tmp_path / "frame.jph").stat().st_size
    assert (tmp_path / "front.bin").read_bytes() == (tmp_path / "frame.jph").read_bytes()[:1000]
    assert (tmp_path / "frame.jph").read_bytes().startswith((tmp_path / "levels.jph").read_bytes())
    assert answers[4].lower().startswith("http/1.1 200")
    assert '"imageFrames"' in answers[5]
    assert '"imageFrameBlob"' in answers[6]
    assert '"urn:framegate:problem:frame-not-found"' in answers[9]

    started = psutil.Process(process.pid).children(recursive=True)
    assert any("ministack" in " ".join(each.cmdline()) for each in started)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 128 + signal.SIGINT
    assert psutil.wait_procs(started, 5)[1] == []


def grouped(text, pattern):
    return re.search(pattern, text)[1].replace(",", "")


def test_demo_passes_every_check_and_writes_pictures():
    command = [sys.executable, "-m", "local.demo"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every check passed" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("make viewer ")
    assert "identical with the imported files" in done.stdout
    assert (PROJECT / "demo-output" / "contact-sheet.png").stat().st_size > 100_000
    assert (PROJECT / "demo-output" / "slices.png").stat().st_size > 50_000
