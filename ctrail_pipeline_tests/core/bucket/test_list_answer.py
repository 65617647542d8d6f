"""An answer to a LIST counts only if nothing is missing that S3 always sends."""

import time
from datetime import UTC, datetime
from xml.sax.saxutils import escape

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from ctrail_pipeline.core.bucket.curl_request import OtherAnswer
from ctrail_pipeline.core.bucket.etag import pack_etag
from ctrail_pipeline.core.bucket.interface import Listed
from ctrail_pipeline.core.bucket.list_answer import ListAnswer, ListRequest, NotAList, read_list
from ctrail_pipeline.core.keys.minutes import minute_of

REQUEST = ListRequest("AWSLogs/")
CONTENTS = (
    "<Contents><Key>AWSLogs/a.json.gz</Key><LastModified>2026-01-10T12:34:56.000Z</LastModified>"
    "<ETag>&quot;0123456789abcdef0123456789abcdef&quot;</ETag>"
    "<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><Size>1234</Size>"
    "<Owner><ID>1</ID><DisplayName>Key</DisplayName></Owner><StorageClass>STANDARD</StorageClass>"
    "</Contents>"
)
LISTED = Listed(
    "AWSLogs/a.json.gz",
    1234,
    bytes.fromhex("0123456789abcdef0123456789abcdef"),
    minute_of(datetime(2026, 1, 10, 12, 34, tzinfo=UTC)),
    archived=False,
)


def document(
    contents: str = CONTENTS, fields: str = "<IsTruncated>false</IsTruncated>", head: str = ""
) -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n{head}'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>logs</Name><Prefix>AWSLogs/</Prefix>{fields}{contents}</ListBucketResult>"
    ).encode()


def test_a_list_is_read_as_it_is() -> None:
    assert read_list(document(), REQUEST) == ListAnswer([LISTED], [], True, "")
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>a+b%2F=</NextContinuationToken>"
    folders = "<CommonPrefixes><Prefix>AWSLogs/o-1/</Prefix></CommonPrefixes>"
    assert read_list(document(CONTENTS + folders, more), REQUEST) == ListAnswer(
        [LISTED], ["AWSLogs/o-1/"], False, "a+b%2F="
    )
    assert read_list(document("\n  ", "\n<IsTruncated>false</IsTruncated>\n"), REQUEST) == (
        ListAnswer([], [], True, "")
    )


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("AWSLogs/a%01%0A.json.gz", "AWSLogs/a\x01\n.json.gz"),
        ("AWSLogs%2Fa+b%2Bc%25.json.gz", "AWSLogs/a b+c%.json.gz"),
        ("AWSLogs/%C3%A9%F0%9F%98%80.json.gz/", "AWSLogs/é😀.json.gz/"),
        ("AWSLogs/a&amp;b&lt;c.json.gz", "AWSLogs/a&b<c.json.gz"),
    ],
)
def test_a_key_that_is_encoded_is_decoded(written: str, key: str) -> None:
    contents = CONTENTS.replace("AWSLogs/a.json.gz", written)
    fields = "<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
    [listed] = read_list(document(contents, fields), REQUEST).objects
    assert listed.key == key
    [plain] = read_list(document(contents), REQUEST).objects
    assert plain.key == written.replace("&amp;", "&").replace("&lt;", "<")


@pytest.mark.parametrize("prefix", ["a%2Bb+c/", "a+b c/"])
def test_the_folder_may_be_repeated_encoded_or_not(prefix: str) -> None:
    fields = "<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
    body = document("", fields).replace(b"AWSLogs/", prefix.encode())
    assert read_list(body, ListRequest("a+b c/")).is_last


BOMB = "<!DOCTYPE b [" + "".join(
    f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "x" * 100}">' for n in range(9)
)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "cut short, or no XML"),
        (document()[:-5], "cut short, or no XML"),
        (document()[:300], "cut short, or no XML"),
        (document() + b"<more/>", "cut short, or no XML"),
        (document().replace(b"a.json.gz", b"a\xff.json.gz"), "cut short, or no XML"),
        (document().replace(b"a.json.gz", b"a\x01.json.gz"), "cut short, or no XML"),
        (b"<html><body>Sign in</body></html>", "another document"),
        (b"<!DOCTYPE html><html><body/></html>", "another document"),
        (document(head=f"{BOMB}]>", contents="&e8;"), "another document"),
        (document().replace(b"ListBucketResult", b"ListVersionsResult"), "another document"),
        (document().replace(b"ListBucketResult", b"ListAllMyBucketsResult"), "another document"),
        (b"<a>" * 100_000, "another document"),
        (document(fields=""), "it does not say whether it is complete"),
        (
            document(fields="<IsTruncated>perhaps</IsTruncated>"),
            "it does not say whether it is complete",
        ),
        (
            document("", fields="<IsTruncated>true</IsTruncated>"),
            "more keys follow, and it has no token to ask for them",
        ),
        (document().replace(b"<Prefix>AWSLogs/", b"<Prefix>other/"), "it names another folder"),
        (document().replace(b"<Prefix>AWSLogs/</Prefix>", b""), "it names another folder"),
        (document(CONTENTS.replace("Key>", "Kez>")), "an entry without Key"),
        (document(CONTENTS.replace("ETag>", "Tag>")), "an entry without ETag"),
        (document(CONTENTS.replace("Size>", "Seize>")), "an entry without Size"),
        (document(CONTENTS.replace("LastModified>", "M>")), "an entry without LastModified"),
        (document("<CommonPrefixes></CommonPrefixes>"), "an entry without Prefix"),
        (document(CONTENTS.replace("1234<", "many<")), "an entry whose size or time"),
        (document(CONTENTS.replace("000Z", "000")), "an entry whose size or time"),
        (document(CONTENTS.replace("2026-01-10T", "2026-02-30T")), "an entry whose size or time"),
    ],
)
def test_what_lacks_something_is_no_list(body: bytes, reason: str) -> None:
    began = time.process_time()
    with pytest.raises(NotAList, match=reason):
        read_list(body, REQUEST)
    assert time.process_time() - began < 1


def test_a_folder_without_a_token_for_its_next_page_is_no_list() -> None:
    body = document(fields="<IsTruncated>true</IsTruncated>")
    assert not read_list(body, REQUEST).is_last  # the next page begins behind the last key
    with pytest.raises(NotAList, match="no token"):
        read_list(body, REQUEST._replace(by_folder=True))


def test_an_error_that_says_200_is_the_error() -> None:
    with pytest.raises(OtherAnswer) as caught:
        read_list(b"<?xml version='1.0'?><Error><Code>SlowDown</Code></Error>", REQUEST)
    assert (caught.value.status, caught.value.code) == (200, "SlowDown")


@given(st.text(st.characters(codec="utf-8"), min_size=1), st.text(st.characters(codec="utf-8")))
def test_every_key_is_read_and_asked_for_as_it_is(key: str, after: str) -> None:
    """S3 encodes keys as forms are encoded; requests are encoded as SigV4 wants them."""
    from urllib.parse import parse_qs, quote_plus

    shown = escape(quote_plus(key, safe="/"))
    fields = "<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
    body = document(CONTENTS.replace("AWSLogs/a.json.gz", shown), fields)
    [listed] = read_list(body, REQUEST).objects
    assert listed == LISTED._replace(key=key)
    request = ListRequest(key, after, by_folder=True)
    query = request.query()
    assert {name: value for name, [value] in parse_qs(query, True).items()} == {
        "delimiter": "/",
        "encoding-type": "url",
        "list-type": "2",
        "max-keys": "1000",
        "prefix": key,
        **({"start-after": after} if after else {}),
    }
    signer = S3SigV4Auth(Credentials("a", "b"), "s3", "us-east-1")
    canonical = signer.canonical_query_string(AWSRequest("GET", f"https://h/?{query}"))
    assert query == canonical


def test_an_etag_is_packed_as_everywhere() -> None:
    body = document(CONTENTS.replace("&quot;0123456789abcdef0123456789abcdef&quot;", '"x-2"'))
    [listed] = read_list(body, REQUEST).objects
    assert listed.etag == pack_etag('"x-2"')
