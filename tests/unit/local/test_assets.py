"""The cache of deployments: code is unpacked once, and only one process builds new sources."""

from __future__ import annotations

import io
import threading
import zipfile

import pytest

from local import assets


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(assets, "CACHE", folder)
    return folder


def zip_file(name, content):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, content)
    return packed.getvalue()


def use_cache(tmp_path):
    """Save an asset, as a successful deployment does."""
    (tmp_path / "cdk.out" / "asset.0123").mkdir(parents=True)
    assets.save(tmp_path / "cdk.out")


def test_code_is_unpacked_once():
    code = zip_file("package/module.py", "ANSWER = 42")
    first = assets.unpacked(code)
    (first / "package" / "compiled").touch()

    assert (assets.unpacked(code) / "package" / "module.py").read_text() == "ANSWER = 42"
    assert (assets.unpacked(code) / "package" / "compiled").exists()


def test_other_code_is_unpacked_into_another_folder():
    folders = {assets.unpacked(zip_file("module.py", content)) for content in ("ANSWER = 42", "ANSWER = 43")}

    assert sorted((each / "module.py").read_text() for each in folders) == ["ANSWER = 42", "ANSWER = 43"]


def test_second_deployment_of_new_sources_waits_for_the_first(tmp_path):
    order = []

    def deploy():
        with assets.deploying():
            order.append("second")

    with assets.deploying():
        second = threading.Thread(target=deploy)
        second.start()
        second.join(0.2)
        order.append("first")
        use_cache(tmp_path)
    second.join(10)

    assert order == ["first", "second"]


def test_deployments_of_built_sources_run_at_the_same_time(tmp_path):
    use_cache(tmp_path)

    with assets.deploying(), assets.deploying():
        pass


def test_changed_source_makes_deployments_wait_again(tmp_path, monkeypatch):
    use_cache(tmp_path)
    assert assets._is_current()
    monkeypatch.setattr(assets, "PROJECT", tmp_path)
    source = tmp_path / "lambda_src" / "framegate" / "new.py"
    source.parent.mkdir(parents=True)
    (tmp_path / "infra" / "build").mkdir(parents=True)
    (tmp_path / "infra" / "build" / "bundling.py").touch()
    source.touch()

    assert not assets._is_current()
