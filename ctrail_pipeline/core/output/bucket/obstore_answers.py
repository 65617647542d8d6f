"""Errors of obstore -> the answers that `core.bucket` knows the meaning of.

obstore has one text for an error, which holds the status and the body of an answer, or the kind of
failure where none came. No part of the text gets into a message of ours, except S3's error code.
"""

import re
from typing import Final

from ctrail_pipeline.core.bucket.curl_request import NOT_TRUSTED, CurlError, NoAnswer, OtherAnswer

_ANSWER: Final = re.compile(
    r"Server returned (?:non-2xx status code: (?P<status>\d{3})[^:]*|error response): ?"
    r"(?P<body>.*)",
    re.DOTALL,
)
_OF_ONE_KEY: Final = re.compile(r"DeleteObjects request failed for key .*\(code: ([A-Za-z0-9.]+)\)")
_KIND: Final = re.compile(r"HttpError \{\s*kind: (\w+)")
_CERTIFICATE: Final = re.compile(r"InvalidCertificate\(\s*(\w+)")
_DEBUG: Final = "\n\nDebug source:"
"""Where obstore's text for people ends."""
_NUMBERS: Final = {"Connect": 7, "Timeout": 28}
"""libcurl's numbers for what obstore calls a failure; any other is a connection that broke."""
_BROKEN: Final = 56
_OK: Final = 200
_WITHOUT_BODY: Final = {404: b"<Code>NoSuchKey</Code>", 412: b"<Code>PreconditionFailed</Code>"}
"""What the answer to a HEAD means, which has no body."""


def obstore_errors() -> tuple[type[Exception], ...]:
    """The errors that obstore raises for a request that it made."""
    from obstore.exceptions import BaseError

    return (BaseError, FileNotFoundError, PermissionError)


def answer_of(error: Exception, *, is_head: bool = False) -> CurlError:
    """Return the answer, or what came instead of one, that an error of obstore tells of."""
    text = str(error)
    said, _, debug = text.partition(_DEBUG)
    answer = _ANSWER.search(said)
    if answer is not None:
        status = int(answer["status"] or _OK)
        body = answer["body"].encode()
        if is_head and not body.strip():
            body = _WITHOUT_BODY.get(status, b"")
        return OtherAnswer(status, body)
    refused = _OF_ONE_KEY.search(said)
    if refused is not None:
        return OtherAnswer(_OK, f"<Code>{refused[1]}</Code>".encode())
    certificate = _CERTIFICATE.search(debug)
    if certificate is not None:
        return NoAnswer(NOT_TRUSTED, certificate[1])
    kind = _KIND.search(debug)
    if kind is not None:
        return NoAnswer(_NUMBERS.get(kind[1], _BROKEN), "the connection broke")
    return CurlError(f"obstore: {type(error).__name__}")
