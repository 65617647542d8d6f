"""Etags are packed small, and are told back as S3 sends them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrail_pipeline.core.bucket.etag import pack_etag, unpack_etag


@given(st.one_of(st.binary(min_size=16, max_size=16).map(bytes.hex), st.text("0123456789abcdef-x")))
def test_an_etag_is_told_back(text: str) -> None:
    assert unpack_etag(pack_etag(f'"{text}"')) == f'"{text}"'
    assert pack_etag(text) == pack_etag(f'"{text}"') == pack_etag(f'W/"{text}"')


def test_an_md5_takes_sixteen_bytes() -> None:
    assert pack_etag('"d41d8cd98f00b204e9800998ecf8427e"') == bytes.fromhex(
        "d41d8cd98f00b204e9800998ecf8427e"
    )
    multipart = '"d41d8cd98f00b204e9800998ecf8427e-2"'
    assert unpack_etag(pack_etag(multipart)) == multipart


@pytest.mark.parametrize("text", ["a" * 15, "0123456789abcde", '22" not an etag'])
def test_an_etag_whose_packed_form_is_as_long_as_an_md5_is_told_back(text: str) -> None:
    assert unpack_etag(pack_etag(text)) == f'"{text}"'


@given(st.binary(min_size=15, max_size=15))
def test_an_md5_that_begins_with_a_quote_is_told_back(tail: bytes) -> None:
    text = (b'"' + tail).hex()
    assert unpack_etag(pack_etag(text)) == f'"{text}"'
