"""Installs the npm packages that only some tests need."""

from __future__ import annotations

import shutil
import subprocess

import pytest

UNREACHABLE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "EHOSTUNREACH")
"""npm's error codes for an unreachable registry. Any other error of npm is a failure."""


def is_unreachable(printed):
    """Whether npm failed because it could not reach its registry."""
    return any(code in printed for code in UNREACHABLE)


def install(folder):
    """Install the packages of a folder's lock file, if necessary, without their install scripts.

    Returns
    -------
    Path
        The folder ``node_modules``.
    """
    lock, modules = folder / "package-lock.json", folder / "node_modules"
    installed = modules / ".installed-lock.json"
    if not installed.exists() or installed.read_bytes() != lock.read_bytes():
        if shutil.which("npm") is None:
            pytest.skip(f"npm is not installed, so the packages of {folder.name}/package.json are missing")
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-progress", "--fetch-retries=1"]
        done = subprocess.run(["npm", "ci", *options], cwd=folder, capture_output=True, text=True)
        if done.returncode and is_unreachable(done.stderr):
            pytest.skip(f"npm's registry cannot be reached, so the packages of {folder.name}/package.json are missing")
        assert done.returncode == 0, done.stderr
        shutil.copyfile(lock, installed)
    return modules
