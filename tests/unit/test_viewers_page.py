"""What docs/viewers.md says about viewers is what the tests run."""

from __future__ import annotations

import json
import re
from pathlib import Path

from local.viewer.ohif import configuration

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "viewers.md").read_text()
OHIF, CORNERSTONE = PROJECT / "local" / "viewer", PROJECT / "tests" / "e2e" / "cornerstone"


def section(title):
    return re.search(rf"^### {re.escape(title)}\n(.*?)^##", PAGE, re.MULTILINE | re.DOTALL)[1]


def javascript(title):
    return re.findall(r"^```js\n(.*?)^```$", section(title), re.MULTILINE | re.DOTALL)


def pinned(folder):
    return json.loads((folder / "package.json").read_text())["dependencies"]


def test_configuration_of_ohif_is_the_one_that_the_tests_run():
    (block,) = javascript("OHIF")
    shown = json.loads(block.removeprefix("window.config = ").rstrip().removesuffix(";"))
    (source,) = shown["dataSources"]
    root = source["configuration"]["qidoRoot"]
    (login,) = shown["oidc"]
    assert shown == configuration(root, login["authority"], login["client_id"])


def test_code_for_cornerstone_is_in_the_page_that_the_tests_open():
    tested = {line.strip() for line in (CORNERSTONE / "page.js").read_text().splitlines()}
    blocks = javascript("Cornerstone3D")
    assert len(blocks) == 2
    for block in blocks:
        assert set(block.splitlines()) <= tested


def test_versions_are_those_that_the_tests_install():
    assert f"`@ohif/app` {pinned(OHIF)['@ohif/app']}." in section("OHIF")
    versions = {pinned(CORNERSTONE)[f"@cornerstonejs/{name}"] for name in ("core", "dicom-image-loader", "metadata")}
    assert [f"`@cornerstonejs/dicom-image-loader` {version}." in section("Cornerstone3D") for version in versions] == [
        True
    ]
    client = re.search(r"^dicomweb-client==(.+)$", (PROJECT / "requirements.in").read_text(), re.MULTILINE)[1]
    assert f"`dicomweb-client` {client}:" in section("dicomweb-client (Python)")
