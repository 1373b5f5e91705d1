"""Settings of all tests, and the assignment of tests to processes."""

import gc
from collections import Counter

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

import infra  # noqa: F401 - imported before aws_cdk, it silences a warning about Node.js

# The same examples on every machine, without a time limit.
settings.register_profile("framegate", deadline=None, derandomize=True)
settings.load_profile("framegate")


USERS_OF_THE_VIEWER = (
    "/test_browser_cache.py",
    "/test_cornerstone.py",
    "/test_dicom_files.py",
    "/test_ohif.py",
    "/e2e/test_viewers_page.py",
)
"""End-to-end tests that share a cloud with a website and a login page."""


class BySlowSetup(LoadScopeScheduling):
    """Runs the tests of a file in one process, and also all tests that share a local cloud or the templates.

    Folders run in alphabetical order: end-to-end tests, which take minutes, come first, and many short files last.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        if path.endswith(USERS_OF_THE_VIEWER):
            return "the viewer"
        has_own_cloud = path.endswith(("/test_auth.py", "/test_commands.py", "/test_permissions.py"))
        if path.startswith("tests/e2e/") and not has_own_cloud:
            return "the local cloud"
        builds_the_bundle = path.endswith(("/test_app.py", "/test_bundle.py"))
        if path.startswith("tests/infra/") and not builds_the_bundle:
            return "the templates"
        return path


def pytest_collection_finish(session):
    """Check that each test has an id of its own, and exempt what is loaded from garbage collection.

    pytest-xdist runs one of the tests that share an id. Garbage collection would take a tenth of the time.
    """
    shared = [each for each, count in Counter(item.nodeid for item in session.items).items() if count > 1]
    if shared:
        raise pytest.UsageError(f"Several tests have the id {shared[0]}, of which pytest-xdist would run one.")
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


def pytest_xdist_make_scheduler(config, log):
    """Replace ``--dist=loadgroup``, whose groups do not work with pytest 9.2."""
    return BySlowSetup(config, log)
