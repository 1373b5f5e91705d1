"""The emulator reads Accept headers as DICOMweb clients write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.health_imaging.media_ranges import MediaRange, parse_accept

HTJ2K = "1.2.840.10008.1.2.4.202"


@pytest.mark.parametrize("accept", [None, "", "  "])
def test_missing_header_accepts_everything(accept):
    assert parse_accept(accept) == [MediaRange("*/*", {})]


@pytest.mark.parametrize(
    "accept",
    [
        f"multipart/related; type=application/octet-stream; transfer-syntax={HTJ2K}",
        f'multipart/related; type="application/octet-stream"; transfer-syntax="{HTJ2K}"',
        f'Multipart/Related;TYPE="APPLICATION/OCTET-STREAM";Transfer-Syntax={HTJ2K}',
        f"multipart/related ; transfer-syntax = {HTJ2K} ; type = application/octet-stream",
        f"multipart/related; transfer-syntax={HTJ2K}",
    ],
)
def test_multipart_range_names_the_type_of_its_parts(accept):
    (found,) = parse_accept(accept)
    assert (found.is_multipart, found.content_type, found.transfer_syntax) == (
        True,
        "application/octet-stream",
        HTJ2K,
    )


def test_weights_order_the_ranges():
    found = parse_accept("image/a;q=0.1, image/b, image/c;q=0, image/d; q=0.5, image/e;q=1.0, image/f;q=0.000")
    assert [each.media_type for each in found] == ["image/b", "image/e", "image/d", "image/a"]


def test_quoted_separators_do_not_split():
    (found,) = parse_accept(r'multipart/related; type="a/b;c,d\"e"; q=0.5')
    assert (found.content_type, found.weight) == ('a/b;c,d"e', 0.5)


@pytest.mark.parametrize("accept", ["text", "text/html/x", "; q=1", ",,", "*", 'a/b"c', "/", "a b/c"])
def test_text_that_is_not_a_media_range_is_ignored(accept):
    assert [each.media_type for each in parse_accept(f"{accept}, image/jpeg")][-1:] in ([], ["image/jpeg"])
    assert not any(each.includes("image/png") for each in parse_accept(f"image/jpeg, {accept}"))


@pytest.mark.parametrize(
    ("media_range", "included"),
    [("*/*", True), ("image/*", True), ("image/jphc", True), ("image/jph", False), ("video/*", False)],
)
def test_wildcards_include_types(media_range, included):
    assert parse_accept(media_range)[0].includes("image/jphc") is included
    assert parse_accept(f'multipart/related; type="{media_range}"')[0].includes("image/jphc") is included


@given(accept=st.text(alphabet=st.sampled_from('ab/*;,="\\ q0.1'), max_size=60) | st.text(max_size=300))
def test_any_header_is_read(accept):
    weights = [each.weight for each in parse_accept(accept)]
    assert weights == sorted(weights, reverse=True)
    assert all(0 < weight <= 1 for weight in weights)
