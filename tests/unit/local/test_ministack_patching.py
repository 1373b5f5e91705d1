"""Replacements of MiniStack's functions apply only to the source that they were written for."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from local.ministack.patching import MiniStackChangedError, Patches, digest_of


def greet(name):
    return f"hello {name}"


async def greet_later(name):
    return f"later {name}"


class Greeter:
    def greet(self, name):
        return f"{type(self).__name__} greets {name}"


def patched(owner, name, function, replacement):
    patches = Patches()
    patches.replaces(owner, name, digest=digest_of(function), why="the greeting is short")(replacement)
    patches.apply()


def louder(original, *arguments):
    return original(*arguments).upper()


def test_replacement_gets_the_original():
    module = SimpleNamespace(greet=greet)
    patched(module, "greet", greet, louder)
    assert module.greet("ann") == "HELLO ANN"


def test_replacement_in_a_mapping_gets_the_original():
    handlers = {"greet": greet}
    patched(handlers, "greet", greet, louder)
    assert handlers["greet"]("ann") == "HELLO ANN"


def test_replacement_of_a_method_gets_the_instance():
    class Louder(Greeter):
        pass

    patched(Louder, "greet", Greeter.greet, louder)
    assert Louder().greet("ann") == "LOUDER GREETS ANN"


def test_replacement_of_a_coroutine_function_is_awaited():
    module = SimpleNamespace(greet=greet_later)

    async def louder_later(original, name):
        return (await original(name)).upper()

    patched(module, "greet", greet_later, louder_later)
    assert asyncio.run(module.greet("ann")) == "LATER ANN"


def test_changed_source_is_rejected_with_the_module_to_review():
    patches = Patches()
    module = SimpleNamespace(greet=greet)
    patches.replaces(module, "greet", digest="0" * 12, why="the greeting is short")(louder)
    with pytest.raises(MiniStackChangedError, match=r"greet has changed.*Review .*the greeting is short"):
        patches.apply()
    assert module.greet is greet


def test_missing_function_is_rejected():
    patches = Patches()
    patches.replaces(SimpleNamespace(), "greet", digest="0" * 12, why="the greeting is short")(louder)
    with pytest.raises(MiniStackChangedError, match="no longer has greet"):
        patches.apply()
