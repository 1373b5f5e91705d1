"""``make`` names a missing or unsupported tool in one line."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent.parent


@pytest.fixture
def make(tmp_path):
    """Run ``make tools`` with stand-ins for commands first on the path; return the first error line."""

    def run(python="python3", **stand_ins):
        for name, script in stand_ins.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / name).chmod(0o755)
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        for inherited in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
            environment.pop(inherited, None)
        done = subprocess.run(
            ["make", "tools", f"PYTHON={python}"],
            cwd=PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        first, *rest = done.stderr.splitlines() or [""]
        assert done.returncode != 0
        assert all(line.startswith("make") for line in rest), "the Makefile printed more than one line"
        return first

    return run


def test_missing_python_is_named(make):
    assert make(python="no-such-python").startswith(
        "Framegate needs Python 3.11 to 3.14, but 'no-such-python' is not installed."
    )


@pytest.mark.parametrize("version", ["3.10.13", "3.15.0"])
def test_unsupported_python_is_named(make, version):
    script = f'[ "$1" = --version ] && echo Python {version} || exit 1'
    assert f"Framegate needs Python 3.11 to 3.14, but 'python3' is Python {version}." in make(python3=script)


def test_old_node_is_named(make):
    script = '[ "$1" = --version ] && echo v18.20.0 || exit 1'
    assert "Framegate needs Node.js 20 or newer for the CDK, but node is v18.20.0." in make(node=script)
