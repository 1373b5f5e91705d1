"""Builds the bundle and the layers of the Lambda functions, without Docker and identically on every machine."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsii
from aws_cdk import AssetHashType, BundlingOptions, DockerImage, ILocalBundling
from aws_cdk import aws_lambda as lambda_

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LAMBDA_SRC = Path(__file__).resolve().parents[2] / "lambda_src"
REQUIREMENTS = LAMBDA_SRC / "requirements.txt"
DECODER_REQUIREMENTS = LAMBDA_SRC / "decoder-requirements.txt"
RENDERING_REQUIREMENTS = LAMBDA_SRC / "rendering-requirements.txt"
AUTHORIZER_REQUIREMENTS = LAMBDA_SRC / "authorizer-requirements.txt"
TABLE_REQUIREMENTS = LAMBDA_SRC / "table-requirements.txt"
PYTHON_VERSION = "3.13"

# botocore ships the models of all AWS services, 25 MB. The functions create clients from these only; aws_xray_sdk
# creates its client on import. HealthImaging and Lambda need no client, only the rules for their endpoints.
SERVICE_MODELS = frozenset({"events", "lambda", "medical-imaging", "s3", "sqs", "xray"})

# imagecodecs ships sixty codecs, 90 MB. Each layer has only those that its process loads, and the libraries that they
# link to.
_EVERY_CODEC = frozenset({"_htj2k", "_jpeg2k", "_shared", "_shared_cython"})
CODECS = {
    DECODER_REQUIREMENTS: _EVERY_CODEC,
    RENDERING_REQUIREMENTS: _EVERY_CODEC | {"_imcd", "_jpeg8", "_jpegls", "_jpegxl", "_ljpeg"},
}
_EVERY_LIBRARY = ("libopenjph", "libopenjp2", "liblcms2")
CODEC_LIBRARIES = {
    DECODER_REQUIREMENTS: _EVERY_LIBRARY,
    RENDERING_REQUIREMENTS: (*_EVERY_LIBRARY, "libjpeg-", "libcharls", "libjxl", "libbrotli"),
}

# Wheels with these tags run on Lambda's Amazon Linux 2023. pip accepts only the listed tags, not the older ones that
# they imply.
_GLIBC_TAGS = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")
_MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}

# Files of packages that no function reads at run time, as pathlib patterns.
_UNUSED = (
    "bin",  # command line tools, whose first line contains the path of this machine's interpreter
    "**/__pycache__",
    "**/*.pyi",
    "*-stubs",
    "**/tests",
    "boto3/data",  # models of boto3's resource interface, which only boto3.resource() reads
    "boto3/examples",
    "botocore/data/*/*/examples-1.json",
    "aws_lambda_powertools/event_handler/openapi/swagger_ui/*.min.*",
    "cffi/*.h",  # files for building extensions, as all that follow
    "numpy/f2py",
    "numpy/_core/include",
    "numpy/_core/lib",
    "numpy/random/lib",
    "numpy/**/*.pxd",
    "PIL/_avif.*",  # formats and features of Pillow that pictures do not use, and their libraries
    "PIL/_imagingcms.*",
    "PIL/_imagingft.*",
    "PIL/_imagingtk.*",
    "pillow.libs/libavif*",
    "pillow.libs/libbrotli*",
    "pillow.libs/libfreetype*",
    "pillow.libs/libharfbuzz*",
    "pillow.libs/liblcms2*",
    "pillow.libs/libpng16*",
    "pyarrow/include",  # files for building extensions
    "pyarrow/includes",
    "pyarrow/src",
    "pyarrow/*.p[xy][dix]",
    "pyarrow/libarrow_python.so",  # copies of libarrow_python.so.<version>, which the extensions load
    "pyarrow/libarrow_python.so.*.*.*",
    "pyarrow/libarrow_python_*",  # formats, file systems and services that tables do not use
    "pyarrow/libarrow_flight*",
    "pyarrow/libarrow_s3*",
    *(
        f"pyarrow/_{module}.*"
        for module in (
            "azurefs",
            "csv",
            "cuda",
            "dataset_orc",
            "dataset_parquet_encryption",
            "feather",
            "flight",
            "gcsfs",
            "hdfs",
            "json",
            "orc",
            "parquet_encryption",
            "pyarrow_cpp_tests",
            "s3fs",
            "substrait",
        )
    ),
)
# Metadata that licences require or importlib.metadata reads. The rest records how pip installed the distribution.
_KEPT_METADATA = ("METADATA", "LICEN", "NOTICE", "COPYING", "AUTHORS", "licenses", "entry_points.txt")


class BundlingError(Exception):
    """The bundle or a layer could not be built."""


@jsii.implements(ILocalBundling)
class LocalBundling:
    """Bundles with the pip of the running interpreter, but for Lambda's platform.

    Parameters
    ----------
    architecture : str
        ``arm64`` or ``x86_64``.
    bundle : callable
        Fills an empty directory for an architecture.
    """

    def __init__(self, architecture: str, bundle: Callable[[Path, str], None]) -> None:
        self._architecture = architecture
        self._bundle = bundle

    # jsii passes the options as keywords only if the signature names one of them.
    def try_bundle(self, output_dir: str, *, image: DockerImage, **_options: Any) -> bool:
        """Bundle into `output_dir` and return ``True``. The CDK would use Docker if this returned ``False``."""
        try:
            self._bundle(Path(output_dir), self._architecture)
        except BundlingError as error:
            # jsii would report an ordinary exception with two tracebacks.
            sys.exit(str(error))
        return True


def lambda_code(architecture: str) -> lambda_.Code:
    """Return the code of the Lambda functions as an asset, which the CDK builds only when it needs it.

    Parameters
    ----------
    architecture : str
        ``arm64`` or ``x86_64``.

    Returns
    -------
    lambda_.Code
        The asset. Its hash depends only on the sources, so unchanged sources are neither built nor deployed again.
    """
    return _asset(source_hash(architecture), LocalBundling(architecture, bundle))


def layer_code(requirements: Path, architecture: str) -> lambda_.Code:
    """Return a layer of packages as an asset, as :func:`lambda_code` does.

    Parameters
    ----------
    requirements : Path
        The requirements file. It pins each package with a version and hashes.
    architecture : str
        ``arm64`` or ``x86_64``.
    """
    return _asset(
        layer_hash(requirements, architecture), LocalBundling(architecture, partial(bundle_layer, requirements))
    )


def _asset(asset_hash: str, bundling: LocalBundling) -> lambda_.Code:
    return lambda_.Code.from_asset(
        str(LAMBDA_SRC),
        asset_hash=asset_hash,
        asset_hash_type=AssetHashType.CUSTOM,
        bundling=BundlingOptions(
            # The CDK requires an image but never pulls it.
            image=DockerImage.from_registry("bundled-without-docker"),
            local=bundling,
        ),
    )


def source_hash(architecture: str) -> str:
    """Return the digest of everything that determines the content of the bundle."""
    return _digest(architecture, REQUIREMENTS, *_own_files())


def layer_hash(requirements: Path, architecture: str) -> str:
    """Return the digest of everything that determines the content of a layer. It contains none of our code."""
    return _digest(architecture, requirements)


def _digest(architecture: str, *paths: Path) -> str:
    digest = hashlib.sha256(f"{architecture}\0{PYTHON_VERSION}\0".encode())
    for path in (Path(__file__), *paths):
        name = path.relative_to(LAMBDA_SRC.parent).as_posix().encode()
        content = path.read_bytes()
        digest.update(b"%d\0%s%d\0%s" % (len(name), name, len(content), content))
    return digest.hexdigest()


def bundle(output: Path, architecture: str) -> None:
    """Write our code and its dependencies to `output`.

    Parameters
    ----------
    output : Path
        An existing, empty directory.
    architecture : str
        ``arm64`` or ``x86_64``.

    Raises
    ------
    BundlingError
        pip could not install a dependency; the message is pip's.
    """
    _install(REQUIREMENTS, output, architecture)
    for source in _own_files():
        target = output / source.relative_to(LAMBDA_SRC)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    _finish(output)


def bundle_layer(requirements: Path, output: Path, architecture: str) -> None:
    """Write the packages of a requirements file to `output` in the layout of a layer; see :func:`bundle`."""
    packages = output / "python"
    packages.mkdir()
    _install(requirements, packages, architecture)
    _prune_codecs(packages, CODECS.get(requirements, frozenset()), CODEC_LIBRARIES.get(requirements, ()))
    _finish(packages)
    packages.chmod(0o755)


def _finish(output: Path) -> None:
    _prune(output)
    # Lambda runs the code as another user, who must be able to read it despite a strict umask on this machine.
    for path in output.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _own_files() -> Iterator[Path]:
    for path in sorted((LAMBDA_SRC / "framegate").rglob("*")):
        relative = path.relative_to(LAMBDA_SRC)
        if path.is_file() and "__pycache__" not in relative.parts and not path.name.startswith("."):
            yield path


def _install(requirements: Path, output: Path, architecture: str) -> None:
    machine = _MACHINES[architecture]
    platforms = [f"--platform={tag}_{machine}" for tag in _GLIBC_TAGS]
    # The file lists every dependency. If pip resolved dependencies, it would evaluate their markers for the Python that
    # it runs on instead of Lambda's, and the bundle would differ between machines.
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-color",
        "--require-hashes", "--no-deps", "--requirement", str(requirements),
        "--target", str(output), *platforms, "--implementation=cp", f"--python-version={PYTHON_VERSION}",
        "--only-binary=:all:", "--no-compile",
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or [result.stderr.strip()]
        raise BundlingError(
            f"pip could not install {requirements.relative_to(LAMBDA_SRC.parent)}: " + "\n".join(errors)
        )


def _prune_codecs(packages: Path, codecs: frozenset[str], libraries: tuple[str, ...]) -> None:
    """Remove the codecs of imagecodecs that a layer does not need."""
    unused = [path for path in packages.glob("imagecodecs/_*.so") if path.name.partition(".")[0] not in codecs]
    unused += [path for path in packages.glob("imagecodecs.libs/*") if not path.name.startswith(libraries)]
    for path in unused:
        path.unlink()


def _prune(output: Path) -> None:
    unused = [path for pattern in _UNUSED for path in output.glob(pattern)]
    models = [path for path in output.glob("botocore/data/*") if path.is_dir()]
    unused += [path for path in models if path.name not in SERVICE_MODELS]
    unused += [path for path in output.glob("*.dist-info/*") if not path.name.startswith(_KEPT_METADATA)]
    for path in unused:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
