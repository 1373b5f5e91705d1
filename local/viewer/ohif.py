"""Downloads OHIF's built application, and configures it for a deployment."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local.cloud import LocalCloudError

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = "@ohif/app"
FOLDER = Path(__file__).parent
APPLICATION = FOLDER / "ohif"
"""The unpacked application, 200 MB. Git ignores it."""

CLIENT_ID = "framegate-viewer"
CALLBACK = "/callback"
"""The path of OHIF to which the login page returns."""

DOWNLOAD_TIMEOUT_SECONDS = 600


def download(report: Callable[[str], None] = lambda _: None) -> Path:
    """Download and unpack the pinned version of OHIF, unless it is there already.

    npm cannot install it as a dependency, because the packages that it was built from are not all published. The
    package contains the built application and needs none of them.

    Returns
    -------
    Path
        The folder of the application.

    Raises
    ------
    LocalCloudError
        If npm fails, or the package differs from the pinned one.
    """
    pins = json.loads((FOLDER / "package.json").read_text())
    version, integrity = pins["dependencies"][PACKAGE], pins["integrity"][PACKAGE]
    ready = APPLICATION / ".version"
    if ready.exists() and ready.read_text() == integrity:
        return APPLICATION
    report(f"downloading {PACKAGE} {version} (50 MB)")
    with tempfile.TemporaryDirectory(dir=FOLDER) as temporary:
        package = _packed(f"{PACKAGE}@{version}", Path(temporary))
        digest = "sha512-" + base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
        if digest != integrity:
            raise LocalCloudError(f"{PACKAGE} {version} is not the pinned package: {digest} instead of {integrity}")
        with tarfile.open(package) as archive:
            archive.extractall(temporary, filter="data")
        shutil.rmtree(APPLICATION, ignore_errors=True)
        (Path(temporary) / "package" / "dist").rename(APPLICATION)
    ready.write_text(integrity)
    return APPLICATION


def _packed(specification: str, folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise LocalCloudError("npm, which downloads the viewer, is not installed")
    try:
        done = subprocess.run(
            [npm, "pack", specification, "--loglevel=error"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LocalCloudError(f"npm took over {DOWNLOAD_TIMEOUT_SECONDS} s to download {specification}") from None
    packages = list(folder.glob("*.tgz"))
    if done.returncode or not packages:
        raise LocalCloudError(f"npm could not download {specification}:\n{done.stdout}{done.stderr}")
    return packages[0]


def configuration(dicomweb_url: str, authority: str, client_id: str = CLIENT_ID) -> dict[str, Any]:
    """Return OHIF's configuration for one data store of a deployment. docs/viewers.md shows the same.

    Parameters
    ----------
    dicomweb_url : str
        Base URL of the DICOMweb routes: ``…/datastore/{datastoreId}``.
    authority : str
        URL of the OpenID Connect provider, without its discovery path.
    client_id : str
        The viewer's client at the provider.

    References
    ----------
    OHIF documentation, "Configuration files" and "DICOMweb".
    """
    source = {
        "friendlyName": "Framegate",
        "name": "framegate",
        "qidoRoot": dicomweb_url,
        "wadoRoot": dicomweb_url,
        "wadoUriRoot": dicomweb_url,
        "qidoSupportsIncludeField": True,
        "supportsFuzzyMatching": False,
        "supportsWildcard": True,
        "imageRendering": "wadors",
        "thumbnailRendering": "thumbnail",
        "thumbnailRequestStrategy": "fetch",
        "enableStudyLazyLoad": True,
        # Without quotes, the Accept header needs no preflight.
        "omitQuotationForMultipartRequest": True,
        "loadMultiframeAsPart10": False,
    }
    return {
        "routerBasename": None,
        "extensions": [],
        "modes": [],
        "showStudyList": True,
        "maxNumberOfWebWorkers": 2,
        "showWarningMessageForCrossOrigin": True,
        "showCPUFallbackMessage": False,
        "showLoadingIndicator": True,
        "strictZSpacingForVolumeViewport": True,
        "investigationalUseDialog": {"option": "never"},
        "defaultDataSourceName": "framegate",
        "maxNumRequests": {"interaction": 100, "thumbnail": 5, "prefetch": 25},
        # Draws the first resolution of a large frame while the rest is on its way.
        "stackRetrieveOptions": {
            "retrieveOptions": {"single": {"streaming": True, "decodeLevel": 3, "minChunkSize": 65536}}
        },
        "dataSources": [
            {
                "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
                "sourceName": "framegate",
                "configuration": source,
            }
        ],
        "oidc": [
            {
                "authority": authority,
                "client_id": client_id,
                "redirect_uri": CALLBACK,
                "response_type": "code",
                "scope": "openid",
                "post_logout_redirect_uri": "/",
                "automaticSilentRenew": False,
                "revokeAccessTokenOnSignout": False,
            }
        ],
    }
