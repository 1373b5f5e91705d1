"""The imports between rooms: arrows run one way, and no circle.

Imports for type checking count as much as others: a reader follows them too.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
LAMBDA_SRC = PROJECT / "lambda_src"

LAYERS = (
    {"entrypoints"},
    {"tables"},
    {"rest", "export"},
    {"rendering", "datasets"},
    {"dicomweb"},
    {"delivery", "index"},
    {"access"},
    {"storage"},
    {"healthimaging"},
    {"jpeg2000"},
    {"aws", "processes"},
    {"contract"},
)
"""The rooms from top to bottom. A room imports from itself and from lower layers, and not from others of its layer."""

CONTRACT = {
    "bucket_layout",
    "identifiers",
    "messages",
    "observability",
    "problems",
    "settings",
    "table_schema",
    "time_budget",
    "upstream_time",
}
"""The modules that every room may import."""

DESCRIBES_THE_API = {
    "rest.routes",
    "rest.http",
    "rest.frame_responses",
    "rest.problem_documents",
    "healthimaging.media_types",
    "healthimaging.regions",
    "jpeg2000.bounds",
}
"""What infra may import beside the contract: the registry of routes, and constants of the OpenAPI document."""

IO_MODULES = {"asyncio", "boto3", "botocore", "http", "multiprocessing", "socket", "ssl", "urllib", "urllib3"}
ENVIRONMENT = {"environ", "environb", "getenv", "getenvb"}
PROCESS_MODULES = {"os", "signal", "subprocess", "threading"}


def module_name(path, root):
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(root, package):
    """Every module of a package below `root`, with its path."""
    return {module_name(path, root): path for path in sorted((root / package).rglob("*.py"))}


OURS = modules(LAMBDA_SRC, "framegate")
EVERY = dict(OURS)
"""Every module of the project but its tests."""
for _package in ("infra", "local", "bench", "smoke"):
    EVERY |= modules(PROJECT, _package)


def imports(path, name):
    """The modules that a module imports anywhere: at the top, in functions, and for type checking."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            # `from framegate import problems` imports a module, `from framegate.problems import Problem` a name.
            yield from {f"{base}.{alias.name}" if f"{base}.{alias.name}" in EVERY else base for alias in node.names}


def room(name):
    """The room of one of our modules; `contract` for those at the ground."""
    parts = name.split(".")
    if len(parts) == 1:
        return "package"
    return parts[1] if len(parts) > 2 or OURS[name].name == "__init__.py" else "contract"


def layer(name):
    return next(number for number, rooms in enumerate(LAYERS) if room(name) in rooms)


def wrong_arrows(arrows):
    """The arrows that run upwards, or between rooms of a layer, each as a sentence."""
    return [
        f"{name} imports {imported}: {room(name)} must not know {room(imported)}"
        for name, imported in arrows
        if room(name) != room(imported) and layer(imported) <= layer(name)
    ]


def arrows():
    return [
        (name, imported)
        for name, path in OURS.items()
        for imported in imports(path, name)
        if imported.startswith("framegate.") and room(name) != "package"
    ]


def test_every_module_has_a_room():
    rooms = {room(name) for name in OURS} - {"package"}
    assert rooms == set().union(*LAYERS)
    assert {name.split(".")[1] for name in OURS if room(name) == "contract"} == CONTRACT


def test_every_import_is_of_a_module_that_exists():
    assert [f"{name} imports {imported}" for name, imported in arrows() if imported not in OURS] == []


def test_arrows_run_downwards():
    assert wrong_arrows(arrows()) == []


@pytest.mark.parametrize(
    ("name", "imported"),
    [
        ("framegate.delivery.deferred_store", "framegate.export.exporter"),
        ("framegate.index.frame_index", "framegate.delivery.portions"),
        ("framegate.export.worker", "framegate.entrypoints.export_parts"),
        ("framegate.problems", "framegate.aws.errors"),
    ],
)
def test_wrong_arrow_is_named(name, imported):
    (sentence,) = wrong_arrows([(name, imported)])
    assert sentence.startswith(f"{name} imports {imported}: ")


def test_imports_are_found_wherever_they_stand(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "import framegate.problems\n"
        "from framegate import time_budget\n"
        "from . import codestream\n"
        "if TYPE_CHECKING:\n    from framegate.rest.http import HttpRequest\n"
        "def late():\n    from framegate.aws.retries import retry\n"
    )
    assert set(imports(path, "framegate.jpeg2000.module")) == {
        "framegate.problems",
        "framegate.time_budget",
        "framegate.jpeg2000.codestream",
        "framegate.rest.http",
        "framegate.aws.retries",
    }


def test_modules_have_no_import_circle():
    graph = {name: {each for each in imports(path, name) if each in EVERY} for name, path in EVERY.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import circle: {' -> '.join(error.args[1])}")


def test_product_knows_neither_stack_nor_tools_nor_tests():
    strangers = {"infra", "local", "bench", "smoke", "tests", "aws_cdk", "constructs"}
    found = {
        f"{name} imports {imported}"
        for name, path in OURS.items()
        for imported in imports(path, name)
        if imported.partition(".")[0] in strangers
    }
    assert not found


def test_infra_imports_the_contract_and_the_routes_alone():
    allowed = {f"framegate.{name}" for name in CONTRACT | DESCRIBES_THE_API} | {"framegate"}
    found = {
        f"{name} imports {imported}"
        for name, path in modules(PROJECT, "infra").items()
        for imported in imports(path, name)
        if imported.partition(".")[0] == "framegate" and imported not in allowed
    }
    assert not found


def test_emulator_knows_nothing_of_framegate():
    found = {
        f"{name} imports {imported}"
        for name, path in modules(PROJECT, "local/health_imaging").items()
        for imported in imports(path, name)
        if imported.partition(".")[0] in {"framegate", "infra", "bench", "smoke", "tests"}
    }
    assert not found


def test_codestreams_are_read_without_input_or_output():
    found = {
        f"{name} imports {imported}"
        for name, path in OURS.items()
        if room(name) == "jpeg2000"
        for imported in imports(path, name)
        if imported.partition(".")[0] in IO_MODULES | PROCESS_MODULES
    }
    assert not found


def names_of(node):
    return {each.name for each in node.names}


def test_settings_alone_read_the_environment():
    readers = {
        name
        for name, path in OURS.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT)
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and names_of(node) & ENVIRONMENT)
    }
    assert readers == {"framegate.settings"}


def test_contract_loads_only_the_libraries_of_its_logger():
    """The stack, and every function, import the contract: it must stay cheap."""
    program = f"import sys; import {', '.join(f'framegate.{name}' for name in sorted(CONTRACT))}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(LAMBDA_SRC)}, capture_output=True, text=True, check=True
    )
    assert {"boto3", "aws_xray_sdk", "ijson", "numpy"}.isdisjoint(done.stdout.split())


def test_no_command_needs_a_path_to_the_package():
    pages = [PROJECT / "Makefile", *PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")]
    texts = {path: path.read_text() for path in (*pages, *EVERY.values())}
    assert [path for path, text in texts.items() if "PYTHONPATH=" in text] == []
