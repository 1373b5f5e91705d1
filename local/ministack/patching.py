"""Replaces functions of MiniStack, after checking that their source has not changed.

A replacement depends on MiniStack's internals, so it names the digest of the source that it was written against. When
a new version of MiniStack changes that source, the local cloud does not start, and the error names the replacement to
review.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

Replacement = Callable[..., Any]


class MiniStackChangedError(Exception):
    """MiniStack's source differs from the one that a replacement was written for."""


@dataclass(frozen=True, slots=True)
class Patch:
    """The replacement of one of MiniStack's functions.

    Attributes
    ----------
    owner : object
        The module, class or mapping that holds the function.
    name : str
        The function's name there.
    digest : str
        The digest of the function's source, as `digest_of` computes it.
    why : str
        What MiniStack does differently from AWS.
    replacement : callable
        Called in its place, with the original function as first argument.
    """

    owner: Any
    name: str
    digest: str
    why: str
    replacement: Replacement

    def apply(self) -> None:
        """Put the replacement in place.

        Raises
        ------
        MiniStackChangedError
            If the function is missing, or its source has changed.
        """
        original = _get(self.owner, self.name)
        if original is None:
            raise MiniStackChangedError(f"MiniStack no longer has {self.name}. {self._review()}")
        found = digest_of(original)
        if found != self.digest:
            raise MiniStackChangedError(
                f"MiniStack's {self.name} has changed: its digest is {found}, not {self.digest}. {self._review()}"
            )
        # A plain function becomes a method if the owner is a class.
        _set(self.owner, self.name, wraps(original)(_calling(self.replacement, original)))

    def _review(self) -> str:
        return f"Review {self.replacement.__module__}, which exists because {self.why}"


class Patches:
    """The replacements of a module, in order of definition."""

    def __init__(self) -> None:
        self._patches: list[Patch] = []

    def replaces(self, owner: Any, name: str, *, digest: str, why: str) -> Callable[[Replacement], Replacement]:
        """Register the decorated function as a replacement; the parameters are those of `Patch`."""

        def register(replacement: Replacement) -> Replacement:
            self._patches.append(Patch(owner, name, digest, why, replacement))
            return replacement

        return register

    def apply(self) -> None:
        """Put every replacement in place."""
        for patch in self._patches:
            patch.apply()


def digest_of(function: Any) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of a function's source, or of a text."""
    source = function if isinstance(function, str) else inspect.getsource(function)
    return hashlib.sha256(source.encode()).hexdigest()[:12]


def _calling(replacement: Replacement, original: Replacement) -> Replacement:
    bound = partial(replacement, original)
    if inspect.iscoroutinefunction(original):

        async def call_async(*arguments: Any, **options: Any) -> Any:
            return await bound(*arguments, **options)

        return call_async

    def call(*arguments: Any, **options: Any) -> Any:
        return bound(*arguments, **options)

    return call


def _get(owner: Any, name: str) -> Any:
    return owner.get(name) if isinstance(owner, MutableMapping) else getattr(owner, name, None)


def _set(owner: Any, name: str, value: Any) -> None:
    if isinstance(owner, MutableMapping):
        owner[name] = value
    else:
        setattr(owner, name, value)
