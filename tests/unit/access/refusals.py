"""Checks that a token is refused."""

from __future__ import annotations

import pytest

from framegate.access.tokens import RefusedTokenError


def refusal(checker, token):
    """Return the reason for refusing a token. The error says nothing else."""
    with pytest.raises(RefusedTokenError) as refused:
        checker.check(token)
    assert str(refused.value) == f"The token is refused: {refused.value.reason}"
    return refused.value.reason
