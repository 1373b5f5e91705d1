"""The bundle: what is in it, how large it is, that it runs, and that the same sources give the same."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from infra.bundling import BundlingError, bundle, source_hash
from tests.infra.project import PROJECT


@pytest.fixture(scope="module")
def bundled(tmp_path_factory):
    """Build the bundle for an architecture, once."""
    built = {}

    def build(architecture):
        if architecture not in built:
            built[architecture] = tmp_path_factory.mktemp(f"bundle-{architecture}")
            bundle(built[architecture], architecture)
        return built[architecture]

    return build


def contents(path):
    return {
        each.relative_to(path).as_posix(): (each.stat().st_mode, hashlib.sha256(each.read_bytes()).hexdigest())
        for each in path.rglob("*")
        if each.is_file()
    }


def test_bundle_is_below_8_mb_zipped(bundled, tmp_path):
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for each in bundled("arm64").rglob("*"):
            archive.write(each, each.relative_to(bundled("arm64")))

    assert (tmp_path / "bundle.zip").stat().st_size < 8_000_000


def test_bundle_has_only_the_service_models_that_are_used(bundled):
    services = {each.name for each in (bundled("arm64") / "botocore" / "data").iterdir() if each.is_dir()}

    assert services == {"s3", "xray"}


def test_bundle_has_all_of_our_code_and_nothing_compiled_or_local(bundled):
    files = contents(bundled("arm64"))
    source = PROJECT / "lambda_src"
    ours = {each.relative_to(source).as_posix() for each in (source / "framegate").rglob("*.py")}

    assert {name for name in files if name.startswith("framegate/")} == ours
    assert not [name for name in files if name.endswith((".pyc", ".pyi")) or name.startswith("bin/")]
    assert not [name for name in files if "/tests/" in name]


def test_bundle_keeps_the_licence_of_each_dependency(bundled):
    for metadata in bundled("arm64").glob("*.dist-info"):
        names = [each.name for each in metadata.rglob("*")]
        assert "METADATA" in names
        assert [name for name in names if name.startswith("LICEN")], metadata.name


def test_lambda_can_read_every_file(bundled):
    assert {mode & 0o777 for mode, _ in contents(bundled("arm64")).values()} == {0o644}


@pytest.mark.parametrize(("architecture", "machine"), [("arm64", "aarch64"), ("x86_64", "x86_64")])
def test_compiled_code_is_for_the_architecture_and_python_of_lambda(bundled, architecture, machine):
    compiled = [name for name in contents(bundled(architecture)) if name.endswith(".so")]

    assert compiled
    assert all(name.endswith(f".cpython-313-{machine}-linux-gnu.so") for name in compiled)


SNAPSHOT = {
    "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "a",
    "AWS_SECRET_ACCESS_KEY": "b",
    "FRAMEGATE_DATASTORE_IDS": "0" * 32,
    "FRAMEGATE_FRAME_BUCKET": "bucket",
    "FRAMEGATE_PRESIGNED_URL_LIFETIME_SECONDS": "300",
    "FRAMEGATE_CORS_ORIGINS": "*",
}


# Before a snapshot the function loads all that it ever needs: every client, and so every service model.
# -S leaves out this interpreter's own packages, so that what is missing from the bundle is missing here.
@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_bundle_runs_under_any_python_that_develops_it(bundled, architecture):
    script = f"""
import sys
sys.path.insert(0, {str(bundled(architecture))!r})
import framegate.handlers.api
import aws_lambda_powertools, aws_xray_sdk, boto3, botocore, urllib3
ours = (framegate.handlers.api, aws_lambda_powertools, aws_xray_sdk, boto3, botocore, urllib3)
assert all(module.__file__.startswith({str(bundled(architecture))!r}) for module in ours)
"""
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", script], capture_output=True, text=True, env=SNAPSHOT, check=False
    )

    assert result.returncode == 0, result.stderr


def test_same_sources_give_the_same_bundle(bundled, tmp_path):
    bundle(tmp_path, "arm64")

    assert contents(tmp_path) == contents(bundled("arm64"))


def test_dependency_that_cannot_be_installed_is_an_error_with_pips_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")

    with pytest.raises(BundlingError, match="No matching distribution found"):
        bundle(tmp_path, "arm64")


@pytest.fixture
def checkout(tmp_path):
    """A copy of the sources elsewhere, with other times and without what Python compiled."""
    for name in ("infra", "lambda_src"):
        shutil.copytree(
            PROJECT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"), copy_function=shutil.copyfile
        )
    return tmp_path


def hash_in(checkout):
    script = "from infra.bundling import source_hash; print(source_hash('arm64'))"
    command = [sys.executable, "-B", "-c", script]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout.strip()


def test_hash_is_of_the_sources_and_not_of_where_or_when_they_are(checkout):
    compiled = checkout / "lambda_src" / "framegate" / "__pycache__" / "settings.cpython-313.pyc"
    compiled.parent.mkdir()
    compiled.write_bytes(b"compiled")

    assert hash_in(checkout) == source_hash("arm64")


@pytest.mark.parametrize(
    "name", ["lambda_src/framegate/settings.py", "lambda_src/requirements.txt", "infra/bundling.py"]
)
def test_hash_changes_with_the_sources(checkout, name):
    with (checkout / name).open("a") as source:
        source.write("# changed\n")

    assert hash_in(checkout) != source_hash("arm64")


def test_hash_changes_with_the_architecture():
    assert source_hash("arm64") != source_hash("x86_64")
