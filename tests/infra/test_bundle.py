"""The bundle and the layers: their content, their size, that they run, and what changes their hashes."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
import zipfile
import zlib
from functools import partial

import imagecodecs
import numpy as np
import pytest

from framegate.settings import AuthorizerSettings, Settings
from infra.build import bundling
from infra.build.bundling import (
    AUTHORIZER_REQUIREMENTS,
    DECODER_REQUIREMENTS,
    RENDERING_REQUIREMENTS,
    TABLE_REQUIREMENTS,
    BundlingError,
    bundle,
    bundle_layer,
    layer_hash,
    source_hash,
)
from infra.build.licences import LICENCE_LIST, licence_list
from local.token_issuer import SigningKey
from tests.infra.project import PROJECT

LAYERS = {
    "decoder": DECODER_REQUIREMENTS,
    "rendering": RENDERING_REQUIREMENTS,
    "authorizer": AUTHORIZER_REQUIREMENTS,
    "tables": TABLE_REQUIREMENTS,
}


@pytest.fixture(scope="module")
def bundled(tmp_path_factory):
    """Build the bundle once for each architecture."""
    built = {}

    def build(architecture):
        if architecture not in built:
            built[architecture] = tmp_path_factory.mktemp(f"bundle-{architecture}")
            bundle(built[architecture], architecture)
        return built[architecture]

    return build


@pytest.fixture(scope="module")
def layer(tmp_path_factory):
    """Build each layer once for each architecture."""
    built = {}

    def build(name, architecture):
        if (name, architecture) not in built:
            built[name, architecture] = tmp_path_factory.mktemp(f"{name}-{architecture}")
            bundle_layer(LAYERS[name], built[name, architecture], architecture)
        return built[name, architecture]

    return build


def contents(path):
    return {
        each.relative_to(path).as_posix(): (each.stat().st_mode, hashlib.sha256(each.read_bytes()).hexdigest())
        for each in path.rglob("*")
        if each.is_file()
    }


def zipped_size(path, archive_path):
    # The fastest compression makes the largest archive.
    with zipfile.ZipFile(archive_path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for each in path.rglob("*"):
            archive.write(each, each.relative_to(path))
    return archive_path.stat().st_size


def test_bundle_is_below_8_mb_zipped(bundled, tmp_path):
    assert zipped_size(bundled("arm64"), tmp_path / "bundle.zip") < 8_000_000


@pytest.mark.parametrize(
    ("name", "limit"),
    [("decoder", 20_000_000), ("rendering", 30_000_000), ("authorizer", 6_000_000), ("tables", 36_000_000)],
)
def test_layer_is_below_its_limit_zipped(layer, tmp_path, name, limit):
    assert zipped_size(layer(name, "arm64"), tmp_path / "layer.zip") < limit


def test_bundle_contains_only_the_used_service_models(bundled):
    services = {each.name for each in (bundled("arm64") / "botocore" / "data").iterdir() if each.is_dir()}

    assert services == {"events", "lambda", "medical-imaging", "s3", "sqs", "xray"}


def test_bundle_contains_all_source_files_and_no_compiled_ones(bundled):
    files = contents(bundled("arm64"))
    source = PROJECT / "lambda_src"
    ours = {each.relative_to(source).as_posix() for each in (source / "framegate").rglob("*.py")}

    assert {name for name in files if name.startswith("framegate/")} == ours
    assert not [name for name in files if name.endswith((".pyc", ".pyi")) or name.startswith("bin/")]
    assert not [name for name in files if "/tests/" in name]


def test_bundle_shares_no_packages_with_the_layers(bundled, layer):
    ours = {each.name for each in bundled("arm64").iterdir()}

    assert ours.isdisjoint(each.name for name in LAYERS for each in (layer(name, "arm64") / "python").iterdir())


@pytest.mark.parametrize(
    ("name", "contained"),
    [
        ("decoder", {"numpy", "imagecodecs"}),
        ("rendering", {"numpy", "imagecodecs", "PIL", "pillow"}),
        ("authorizer", {"jwt", "pyjwt", "cryptography", "cffi", "_cffi_backend", "pycparser"}),
        ("tables", {"pyarrow"}),
    ],
)
def test_layer_contains_only_its_packages_in_the_python_folder(layer, name, contained):
    (packages,) = layer(name, "arm64").iterdir()

    assert packages.name == "python"
    assert {each.name.partition("-")[0].partition(".")[0] for each in packages.iterdir()} == contained


@pytest.mark.parametrize("name", LAYERS)
def test_layer_contains_no_build_or_test_files(layer, name):
    files = contents(layer(name, "arm64"))

    assert not [name for name in files if name.endswith((".pyc", ".pyi", ".pxd", ".h", ".a"))]
    assert not [name for name in files if "/tests/" in name or "/f2py/" in name or "/bin/" in name]


def test_bundle_and_layers_contain_the_licence_of_each_dependency(bundled, layer):
    layers = [metadata for name in LAYERS for metadata in layer(name, "arm64").glob("python/*.dist-info")]
    for metadata in (*bundled("arm64").glob("*.dist-info"), *layers):
        names = [each.name for each in metadata.rglob("*")]
        assert "METADATA" in names
        assert [name for name in names if name.startswith("LICEN")], metadata.name


@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_licence_list_matches_the_deployed_packages(bundled, layer, architecture):
    installed = {
        "The functions": bundled(architecture),
        "The decoder's layer": layer("decoder", architecture) / "python",
        "The render function's layer": layer("rendering", architecture) / "python",
        "The authorizer's layer": layer("authorizer", architecture) / "python",
        "The table function's layer": layer("tables", architecture) / "python",
    }

    assert licence_list(installed) == LICENCE_LIST.read_text(), "run make licences"


def test_files_are_readable_by_any_user(bundled, layer):
    for path in (bundled("arm64"), *(layer(name, "arm64") for name in LAYERS)):
        assert {mode & 0o777 for mode, _ in contents(path).values()} == {0o644}
        assert {each.stat().st_mode & 0o777 for each in path.rglob("*") if each.is_dir()} == {0o755}


@pytest.mark.parametrize(("architecture", "machine"), [("arm64", "aarch64"), ("x86_64", "x86_64")])
def test_compiled_code_matches_the_architecture_and_python_version(bundled, architecture, machine):
    compiled = [name for name in contents(bundled(architecture)) if name.endswith(".so")]

    assert compiled
    assert all(name.endswith(f".cpython-313-{machine}-linux-gnu.so") for name in compiled)


# Bytes 18 and 19 of an ELF file, which name the machine.
ELF_MACHINES = {"arm64": 0xB7, "x86_64": 0x3E}


@pytest.mark.parametrize("architecture", ELF_MACHINES)
@pytest.mark.parametrize("name", LAYERS)
def test_layer_libraries_match_the_architecture_and_python_version(layer, name, architecture):
    libraries = [each for each in layer(name, architecture).rglob("*") if ".so" in each.suffixes]
    named_by_python = [each.name for each in libraries if ".cpython-" in each.name]

    assert libraries
    assert {int.from_bytes(each.read_bytes()[18:20], "little") for each in libraries} == {ELF_MACHINES[architecture]}
    assert named_by_python
    assert all(".cpython-313-" in name for name in named_by_python)


SNAPSHOT = {
    "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "a",
    "AWS_SECRET_ACCESS_KEY": "b",
    "FRAMEGATE_EXPORT_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/queue",
    **Settings(
        datastore_ids=("0" * 32,),
        frame_bucket="bucket",
        presigned_url_lifetime_seconds=300,
        deferred_store_queue_url="https://sqs.eu-west-1.amazonaws.com/123456789012/deferred",
        cors_origins=("*",),
        auth="iam",
        uid_hash_secret="secret of the test",
        # With a decision function, the snapshot needs the rules for Lambda's endpoint.
        authorization_function_arn="arn:aws:lambda:eu-west-1:123456789012:function:image-access",
        authorization_cache_seconds=60,
    ).to_environment(),
    **AuthorizerSettings(
        datastore_ids=("0" * 32,),
        issuer="https://login.example.org",
        audiences=("framegate",),
        datastores_claim=None,
    ).to_environment(),
}


# Before a snapshot, the function creates every client and so loads every service model. The option -S hides the
# packages of this interpreter, so the test fails if the bundle lacks one.
@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_bundle_can_be_imported_without_other_packages(bundled, architecture):
    script = f"""
import sys
sys.path.insert(0, {str(bundled(architecture))!r})
import framegate.entrypoints.api, framegate.entrypoints.export, framegate.entrypoints.export_requests
import aws_lambda_powertools, aws_xray_sdk, boto3, botocore, ijson, urllib3
ours = (framegate.entrypoints.api, aws_lambda_powertools, aws_xray_sdk, boto3, botocore, ijson, urllib3)
assert all(module.__file__.startswith({str(bundled(architecture))!r}) for module in ours)
"""
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", script], capture_output=True, text=True, env=SNAPSHOT, check=False
    )

    assert result.returncode == 0, result.stderr


MACHINES = {"aarch64": "arm64", "x86_64": "x86_64"}


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in MACHINES, reason="the layer's libraries are for Linux"
)
def test_decoder_layer_decodes_htj2k_and_jpeg_2000(bundled, monkeypatch, tmp_path):
    architecture = MACHINES[platform.machine()]
    # The packages are installed for the interpreter that runs the test, which may differ from Lambda's.
    monkeypatch.setattr(bundling, "PYTHON_VERSION", f"{sys.version_info.major}.{sys.version_info.minor}")
    bundle_layer(DECODER_REQUIREMENTS, tmp_path, architecture)
    script = f"""
import sys, zlib
sys.path[:0] = [{str(bundled(architecture))!r}, {str(tmp_path / "python")!r}]
from framegate.export.decoder import DecoderProcess
from framegate.jpeg2000.pixels import Decoder
process = DecoderProcess()
for decoder, path in ((Decoder.OPENJPH, "htj2k"), (Decoder.OPENJPEG, "jpeg2k")):
    content = open({str(tmp_path)!r} + "/" + path, "rb").read()
    print(*process.decode([content], len(content), decoder, 60).checksums)
assert "imagecodecs" not in sys.modules
"""
    pixels = np.arange(96 * 80, dtype=np.uint16).reshape(96, 80)
    (tmp_path / "htj2k").write_bytes(imagecodecs.htj2k_encode(pixels, reversible=True))
    (tmp_path / "jpeg2k").write_bytes(imagecodecs.jpeg2k_encode(pixels, reversible=True, level=0))
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", script], capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stderr
    assert [int(each) for each in result.stdout.split()] == [zlib.crc32(pixels.tobytes())] * 2


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in MACHINES, reason="the layer's libraries are for Linux"
)
def test_rendering_layer_draws_every_kind_of_frame_in_every_format(bundled, monkeypatch, tmp_path):
    architecture = MACHINES[platform.machine()]
    monkeypatch.setattr(bundling, "PYTHON_VERSION", f"{sys.version_info.major}.{sys.version_info.minor}")
    bundle_layer(RENDERING_REQUIREMENTS, tmp_path, architecture)
    pixels = np.arange(96 * 80).reshape(96, 80).astype(np.uint8)
    frames = {
        "1.2.840.10008.1.2.1": pixels.tobytes(),
        "1.2.840.10008.1.2.4.50": imagecodecs.jpeg8_encode(pixels),
        "1.2.840.10008.1.2.4.70": imagecodecs.ljpeg_encode(pixels),
        "1.2.840.10008.1.2.4.80": imagecodecs.jpegls_encode(pixels),
        "1.2.840.10008.1.2.4.90": imagecodecs.jpeg2k_encode(pixels, reversible=True, level=0),
        "1.2.840.10008.1.2.4.112": imagecodecs.jpegxl_encode(pixels, lossless=True),
        "1.2.840.10008.1.2.4.202": imagecodecs.htj2k_encode(pixels, reversible=True),
    }
    for syntax, content in frames.items():
        (tmp_path / syntax).write_bytes(content)
    script = f"""
import sys
sys.path[:0] = [{str(bundled(architecture))!r}, {str(tmp_path / "python")!r}]
from framegate.rendering.drawing_process import DrawingProcess, DrawTask
from framegate.rendering.request import MEDIA_TYPES, PictureRequest
numbers = {{"00280002": 1, "00280010": 96, "00280011": 80, "00280100": 8, "00280101": 8, "00280103": 0}}
attributes = {{tag: {{"Value": [number]}} for tag, number in numbers.items()}}
attributes["00280004"] = {{"Value": ["MONOCHROME2"]}}
process = DrawingProcess()
for syntax in {list(frames)!r}:
    content = open({str(tmp_path)!r} + "/" + syntax, "rb").read()
    for media_type in MEDIA_TYPES:
        drawn = process.draw(content, DrawTask(syntax, attributes, None, PictureRequest(media_type), 96), 60)
        print(syntax, media_type, drawn.status.name, drawn.reason)
assert not {{"imagecodecs", "numpy", "PIL"}} & set(sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", script], capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 4 * len(frames)
    assert [line for line in lines if not line.rstrip().endswith(" DRAWN")] == []


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in MACHINES, reason="the layer's libraries are for Linux"
)
def test_bundle_and_table_layer_write_and_read_a_file(bundled, monkeypatch, tmp_path):
    architecture = MACHINES[platform.machine()]
    monkeypatch.setattr(bundling, "PYTHON_VERSION", f"{sys.version_info.major}.{sys.version_info.minor}")
    bundle_layer(TABLE_REQUIREMENTS, tmp_path, architecture)
    script = f"""
import sys
sys.path[:0] = [{str(bundled(architecture))!r}, {str(tmp_path / "python")!r}]
import framegate.entrypoints.tables
import pyarrow as pa
from framegate.table_schema import TABLES
from framegate.tables.parquet import TablePart
from framegate.tables.rows import schema_of
for table in TABLES:
    schema = schema_of(table, ["PatientBirthDate"])
    values = dict.fromkeys(schema.names) | {{"image_set_id": "5"}}
    row = pa.table({{each.name: pa.array([values[each.name]], each.type) for each in schema}})
    part = TablePart(schema.empty_table()).replaced([], {{"5": ("state", row)}})
    read = TablePart.decode(part.encode(), schema)
    print(read.rows.num_rows, read.states, read.replaced(["5"], {{}}).rows.num_rows)
assert pa.__file__.startswith({str(tmp_path)!r})
"""
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", script], capture_output=True, text=True, env=SNAPSHOT, check=False
    )

    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["1 {'5': 'state'} 0"] * 2


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in MACHINES, reason="the layer's libraries are for Linux"
)
@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_bundle_and_authorizer_layer_check_a_token(bundled, layer_of_this_machine, algorithm):
    architecture, packages = layer_of_this_machine
    key = SigningKey(algorithm, "first")
    token = key.sign({"iss": "https://login.example.org", "aud": "framegate", "exp": 2**33})
    script = f"""
import sys
sys.path[:0] = [{str(bundled(architecture))!r}, {str(packages)!r}]
import framegate.entrypoints.authorizer
from framegate.access.issuer_keys import IssuerKeys
from framegate.access.tokens import TokenChecker
keys = IssuerKeys(lambda: [{key.public_jwk()!r}])
print(TokenChecker("https://login.example.org", ("framegate",), None, keys).check({token!r}).expires_at)
assert sys.modules["cryptography"].__file__.startswith({str(packages)!r})
"""
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", script], capture_output=True, text=True, env=SNAPSHOT, check=False
    )

    assert result.returncode == 0, result.stderr
    assert int(result.stdout) == 2**33 + 30


@pytest.fixture(scope="module")
def layer_of_this_machine(tmp_path_factory):
    """The authorizer's packages for the interpreter that runs the test, which may differ from Lambda's."""
    architecture = MACHINES[platform.machine()]
    folder = tmp_path_factory.mktemp("layer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundling, "PYTHON_VERSION", f"{sys.version_info.major}.{sys.version_info.minor}")
        bundle_layer(AUTHORIZER_REQUIREMENTS, folder, architecture)
    return architecture, folder / "python"


def test_bundle_is_reproducible(bundled, tmp_path):
    bundle(tmp_path, "arm64")

    assert contents(tmp_path) == contents(bundled("arm64"))


@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_reproducible(layer, tmp_path, name):
    bundle_layer(LAYERS[name], tmp_path, "arm64")

    assert contents(tmp_path) == contents(layer(name, "arm64"))


@pytest.mark.parametrize(
    ("build", "requirements"),
    [
        (bundle, "requirements.txt"),
        (partial(bundle_layer, DECODER_REQUIREMENTS), "decoder-requirements.txt"),
        (partial(bundle_layer, RENDERING_REQUIREMENTS), "rendering-requirements.txt"),
        (partial(bundle_layer, AUTHORIZER_REQUIREMENTS), "authorizer-requirements.txt"),
        (partial(bundle_layer, TABLE_REQUIREMENTS), "table-requirements.txt"),
    ],
)
def test_failed_installation_raises_an_error_with_pips_message(tmp_path, monkeypatch, build, requirements):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")

    with pytest.raises(BundlingError, match=f"install lambda_src/{requirements}: (.|\n)*No matching distribution"):
        build(tmp_path, "arm64")


@pytest.fixture
def checkout(tmp_path):
    """A copy of the sources in another folder, with other modification times and without compiled files."""
    for name in ("infra", "lambda_src"):
        shutil.copytree(
            PROJECT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"), copy_function=shutil.copyfile
        )
    return tmp_path


def hashes_in(checkout):
    script = """
from infra.build.bundling import *
layers = (DECODER_REQUIREMENTS, RENDERING_REQUIREMENTS, AUTHORIZER_REQUIREMENTS, TABLE_REQUIREMENTS)
print(source_hash("arm64"), *(layer_hash(each, "arm64") for each in layers))
"""
    command = [sys.executable, "-B", "-c", script]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout.split()


def hashes_here():
    return [source_hash("arm64"), *(layer_hash(each, "arm64") for each in LAYERS.values())]


def test_hashes_depend_on_neither_location_nor_time(checkout):
    compiled = checkout / "lambda_src" / "framegate" / "__pycache__" / "settings.cpython-313.pyc"
    compiled.parent.mkdir()
    compiled.write_bytes(b"compiled")
    # What `pip install --editable` leaves.
    (checkout / "lambda_src" / "framegate.egg-info").mkdir()
    (checkout / "lambda_src" / "framegate.egg-info" / "PKG-INFO").write_text("Name: framegate")

    assert hashes_in(checkout) == hashes_here()


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("lambda_src/framegate/settings.py", [True, False, False, False, False]),
        ("lambda_src/requirements.txt", [True, False, False, False, False]),
        ("lambda_src/decoder-requirements.txt", [False, True, False, False, False]),
        ("lambda_src/rendering-requirements.txt", [False, False, True, False, False]),
        ("lambda_src/authorizer-requirements.txt", [False, False, False, True, False]),
        ("lambda_src/table-requirements.txt", [False, False, False, False, True]),
        ("infra/build/bundling.py", [True, True, True, True, True]),
    ],
)
def test_hashes_change_only_with_their_own_sources(checkout, name, changed):
    with (checkout / name).open("a") as source:
        source.write("# changed\n")

    assert [there != here for there, here in zip(hashes_in(checkout), hashes_here(), strict=True)] == changed


@pytest.mark.parametrize("hash_of", [source_hash, partial(layer_hash, DECODER_REQUIREMENTS)])
def test_hash_changes_with_the_architecture(hash_of):
    assert hash_of("arm64") != hash_of("x86_64")
