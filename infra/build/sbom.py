"""Writes a software bill of materials for each bundle and layer that runs in Lambda: CycloneDX 1.6, in JSON."""

from __future__ import annotations

import re
import tomllib
import uuid
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
from cryptography.hazmat.backends.openssl import backend as openssl_backend
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.contrib.this.builders import this_component
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseAcknowledgement
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.utils import canonicalize_name
from PIL import features

from infra.build.bundling import PYTHON_VERSION, REQUIREMENTS
from infra.build.licences import LAYERS, LICENCE_LIST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from cyclonedx.model.license import License

PROJECT = Path(__file__).resolve().parents[2]
OUTPUT = PROJECT / "sbom"

# Serial numbers are version 5 UUIDs (RFC 9562, section 5.5) in this namespace: the same lock gives the same bill.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:framegate:sbom")

_REQUIREMENT = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?==(?P<version>[^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:(?P<hash>[0-9a-f]{64})")
_REQUIRED_BY = re.compile(r"^ +# (?: +|via )(?P<source>.+)$")
_YAJL = re.compile(r"libyajl-[0-9a-f]+\.so\.(?P<version>[0-9.]+)")
_LICENCE_ROW = re.compile(r"^\| (?P<name>\S+) \| (?P<version>\d\S*) \| (?P<licence>.+) \|$", re.MULTILINE)


class SbomError(Exception):
    """A lock, the list of licences and the installed packages do not describe the same software."""


@dataclass(frozen=True)
class LockedPackage:
    """One package of a lock file.

    Parameters
    ----------
    name : str
        The normalized name of the distribution.
    version : str
        The pinned version.
    hashes : frozenset of str
        SHA-256 digests, in hexadecimal, of the distribution files that may be installed.
    required_by : frozenset of str
        Normalized names of the packages that need this one; empty for a package that only we ask for.
    direct : bool
        Whether an ``.in`` file of ours names it.
    """

    name: str
    version: str
    hashes: frozenset[str]
    required_by: frozenset[str]
    direct: bool


def locked_packages(lock: str) -> list[LockedPackage]:
    """Read a lock file that ``uv pip compile --generate-hashes`` wrote.

    Parameters
    ----------
    lock : str
        The text of the file.

    Raises
    ------
    SbomError
        A line is not understood, or a package has no hash.
    """
    return [_locked_package(lines) for lines in _entries(lock)]


def _entries(lock: str) -> Iterator[list[str]]:
    """Split the lock into the lines of each package."""
    entry: list[str] = []
    for line in lock.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if not line.startswith(" ") and entry:
            yield entry
            entry = []
        entry.append(line)
    if entry:
        yield entry


def _locked_package(lines: list[str]) -> LockedPackage:
    requirement = _REQUIREMENT.match(lines[0])
    hashes = frozenset(found["hash"] for line in lines for found in _HASH.finditer(line))
    if requirement is None or not hashes:
        raise SbomError(f"Not a package pinned with hashes: {lines[0]}")
    sources = {found["source"] for line in lines if (found := _REQUIRED_BY.match(line))}
    files = {source for source in sources if source.startswith("-r ")}
    return LockedPackage(
        name=canonicalize_name(requirement["name"]),
        version=requirement["version"],
        hashes=hashes,
        required_by=frozenset(map(canonicalize_name, sources - files)),
        direct=bool(files),
    )


def listed_licences(page: str) -> dict[tuple[str, str], str]:
    """Read docs/licences.md: the licence of each distribution, by its normalized name and version."""
    return {(canonicalize_name(row["name"]), row["version"]): row["licence"] for row in _LICENCE_ROW.finditer(page)}


_CODEC_LIBRARIES = {
    "decoder-layer": ("lcms2", "openjpeg", "openjph"),
    "rendering-layer": ("brotli", "charls", "lcms2", "libjpeg_turbo", "libjxl", "openjpeg", "openjph"),
}
"""The libraries of imagecodecs that remain in each layer, see `infra.build.bundling.CODEC_LIBRARIES`."""


def _imagecodecs_libraries(part: str) -> dict[str, str]:
    versions = dict(each.rsplit("-", 1) for each in imagecodecs.version().split(", "))
    return {name: versions[name].partition("/")[0] for name in _CODEC_LIBRARIES[part]}


def _pillow_libraries() -> dict[str, str]:
    versions = {
        "libjpeg-turbo": features.version_feature("libjpeg_turbo"),
        "libtiff": features.version_codec("libtiff"),
        "libwebp": features.version_module("webp"),
        "openjpeg": features.version_codec("jpg_2000"),
    }
    return {name: str(version) for name, version in versions.items()}


def _numpy_libraries() -> dict[str, str]:
    # NumPy types the result as optional: it prints the configuration unless it is asked for dictionaries.
    configuration: Any = np.show_config(mode="dicts")
    blas = configuration["Build Dependencies"]["blas"]
    return {blas["name"]: blas["version"]}


def _cryptography_libraries() -> dict[str, str]:
    name, version, *_ = openssl_backend.openssl_version_text().split()
    return {name.lower(): version}


def _ijson_libraries() -> dict[str, str]:
    # The wheel has YAJL as a shared library, whose file name ends in the release that it was built from.
    matches = (_YAJL.fullmatch(each.name) for each in metadata.files("ijson") or ())
    versions = [found["version"] for found in matches if found]
    return {"yajl": versions[0]} if versions else {}


# Libraries in C and C++ that a wheel contains, which no lock names. Most advisories that matter are about these.
BUILT_IN_LIBRARIES: Mapping[str, Callable[[], dict[str, str]]] = {
    "cryptography": _cryptography_libraries,
    "ijson": _ijson_libraries,
    "numpy": _numpy_libraries,
    "pillow": _pillow_libraries,
}


def _built_in_components(package: LockedPackage, part: str) -> Iterator[Component]:
    libraries: Mapping[str, Callable[[], dict[str, str]]] = {
        **BUILT_IN_LIBRARIES,
        "imagecodecs": partial(_imagecodecs_libraries, part),
    }
    if package.name not in libraries:
        return
    installed = metadata.version(package.name)
    if installed != package.version:
        raise SbomError(f"{package.name} {package.version} is locked, but {installed} is installed: run make setup")
    for name, version in libraries[package.name]().items():
        yield Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY,
            bom_ref=f"{package.name}/{name}@{version}",
            purl=PackageURL("generic", name=name, version=version),
        )


def _component(package: LockedPackage, licence: str, part: str) -> Component:
    purl = PackageURL("pypi", name=package.name, version=package.version)
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        bom_ref=purl.to_string(),
        purl=purl,
        licenses=_licences(licence),
        components=_built_in_components(package, part),
        # A lock has a hash for each file of the release. CycloneDX reads several hashes of a component as digests of
        # one file, so they stand at the distribution, where its own generator for requirements files has them.
        external_references=[
            ExternalReference(
                type=ExternalReferenceType.DISTRIBUTION,
                url=XsUri(purl.to_string()),
                comment="Each hash is of one distribution file of this release; pip installs no other file.",
                hashes=(HashType(alg=HashAlgorithm.SHA_256, content=each) for each in sorted(package.hashes)),
            )
        ],
    )


def _licences(licence: str) -> Iterable[License]:
    """Return an SPDX expression as one licence, and a list of names as one licence each."""
    factory = LicenseFactory()
    return [
        factory.make_from_string(each, license_acknowledgement=LicenseAcknowledgement.DECLARED)
        for each in licence.split(", ")
    ]


def part_name(requirements: Path) -> str:
    """Return what a bill is called: ``functions``, or ``<name>-layer`` for ``<name>-requirements.txt``."""
    layer = requirements.stem.removesuffix("requirements").rstrip("-")
    return f"{layer}-layer" if layer else "functions"


def bill_of_materials(requirements: Path, licences: Mapping[tuple[str, str], str]) -> str:
    """Return the bill of what one lock file puts into a bundle or layer.

    Parameters
    ----------
    requirements : Path
        The lock file.
    licences : mapping of (str, str) to str
        The licence of each distribution, by normalized name and version.

    Returns
    -------
    str
        A CycloneDX 1.6 document (ECMA-424), in JSON. The same lock and licences always give the same text.

    Raises
    ------
    SbomError
        A package has no licence in `licences`, or the lock cannot be read.
    """
    lock = requirements.read_text(encoding="utf-8")
    packages = locked_packages(lock)
    components: dict[str, Component] = {}
    for package in packages:
        licence = licences.get((package.name, package.version))
        if licence is None:
            raise SbomError(f"{LICENCE_LIST.name} does not list {package.name} {package.version}: run make licences")
        components[package.name] = _component(package, licence, part_name(requirements))

    name = f"framegate-{part_name(requirements)}"
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    root = Component(
        name=name,
        version=version,
        type=ComponentType.APPLICATION if requirements == REQUIREMENTS else ComponentType.LIBRARY,
        bom_ref=f"{name}@{version}",
        licenses=_licences("Apache-2.0"),
        properties=[Property(name="framegate:python", value=PYTHON_VERSION)],
    )
    document = BomMetaData(component=root)
    document.tools.components.add(this_component())
    # CycloneDX makes the time optional; it would be the only thing that differs between two runs.
    document.timestamp = None  # type: ignore[assignment]
    bill = Bom(
        metadata=document,
        components=components.values(),
        serial_number=uuid.uuid5(_NAMESPACE, f"{name}\0{version}\0{lock}"),
    )
    bill.register_dependency(root, [components[package.name] for package in packages if package.direct])
    for needing in packages:
        needed = [components[package.name] for package in packages if needing.name in package.required_by]
        bill.register_dependency(components[needing.name], needed)
    return JsonV1Dot6(bill).output_as_string(indent=2) + "\n"


def main() -> None:
    """Write every bill to sbom/."""
    licences = listed_licences(LICENCE_LIST.read_text(encoding="utf-8"))
    OUTPUT.mkdir(exist_ok=True)
    for requirements in (REQUIREMENTS, *LAYERS.values()):
        path = OUTPUT / f"{part_name(requirements)}.cdx.json"
        path.write_text(bill_of_materials(requirements, licences), encoding="utf-8")
        print(path.relative_to(PROJECT))


if __name__ == "__main__":
    main()
