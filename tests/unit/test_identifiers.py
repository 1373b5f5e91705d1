"""Identifiers of image sets and frames."""

import string
from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framegate.identifiers import FrameRef, ImageSetRef
from framegate.problems import InvalidIdentifier

ALPHABET = string.digits + string.ascii_lowercase
identifiers = st.text(ALPHABET, min_size=32, max_size=32)


@given(identifiers, identifiers, identifiers)
def test_32_digits_and_lower_case_letters_are_an_identifier(datastore_id, image_set_id, image_frame_id):
    frame = FrameRef(datastore_id, image_set_id, image_frame_id)
    assert astuple(frame) == (datastore_id, image_set_id, image_frame_id)


@given(st.text().filter(lambda text: len(text) != 32 or not set(text) <= set(ALPHABET)))
def test_anything_else_is_rejected_and_not_repeated(text):
    with pytest.raises(InvalidIdentifier) as refused:
        FrameRef("d" * 32, "5" * 32, text)
    assert (
        refused.value.description == "imageFrameId must be 32 characters, each a digit 0-9 or a lower-case letter a-z."
    )


@pytest.mark.parametrize(
    "value",
    [
        "f" * 32 + "\n",
        "F" * 32,
        "f" * 31 + "é",
        "f" * 31 + "１",  # a full-width digit, for which str.isdigit is true
        "../" + "f" * 29,
        "f" * 31 + "\0",
        "",
        None,
        7,
    ],
)
def test_lookalikes_are_rejected(value):
    with pytest.raises(InvalidIdentifier):
        ImageSetRef("d" * 32, value)


def test_error_names_the_identifier_as_the_api_spells_it():
    with pytest.raises(InvalidIdentifier, match=r"^datastoreId must"):
        ImageSetRef("Mueller", "5" * 32)
    with pytest.raises(InvalidIdentifier, match=r"^imageSetId must"):
        ImageSetRef("d" * 32, "Mueller")
