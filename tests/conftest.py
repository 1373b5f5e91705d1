"""What all tests share, and which of them share a process."""

from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

import infra  # noqa: F401 - imported before aws_cdk, it silences a warning about Node.js

# The same examples on every machine, and none of them against the clock.
settings.register_profile("framegate", deadline=None, derandomize=True)
settings.load_profile("framegate")


class ByWhatIsSlowToSetUp(LoadScopeScheduling):
    """Runs the tests of a file in one process, and all that use the same local cloud, or the same templates.

    What takes minutes comes first, as it is in the order of folders; the many short files fill up the rest.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        has_a_cloud_of_its_own = path.endswith(("/test_auth.py", "/test_commands.py", "/test_permissions.py"))
        if path.startswith("tests/e2e/") and not has_a_cloud_of_its_own:
            return "the local cloud"
        builds_the_bundle = path.endswith(("/test_app.py", "/test_bundle.py"))
        if path.startswith("tests/infra/") and not builds_the_bundle:
            return "the templates"
        return path


def pytest_xdist_make_scheduler(config, log):
    """Take the place of ``--dist=loadgroup``, whose groups pytest 9.2 does not know."""
    return ByWhatIsSlowToSetUp(config, log)
