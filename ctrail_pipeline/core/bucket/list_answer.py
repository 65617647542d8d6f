"""What a LIST (ListObjectsV2) asks, and its answer: read from XML, and checked. Values only.

S3 may answer 200 with an `<Error>` document, and a machine in between with a page of its own. So an
answer counts as a list only if nothing is missing that S3 always sends. Otherwise a folder could
pass for empty. Not here: who asks (`s3_listing`), and whether keys come in order.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_plus
from xml.parsers import expat

from ctrail_pipeline.core.keys.minutes import minute_of

from .curl_request import CurlError, OtherAnswer
from .etag import pack_etag
from .interface import PAGE_SIZE, Listed

_ROOT: Final = "ListBucketResult"
_OK: Final = 200
_SIZE_BITS: Final = 63
"""Bits that the ledger has for a size, without the sign."""
_DEPTH_LIMIT: Final = 8
"""Elements inside each other. S3 sends four."""


class NotAList(CurlError):
    """The answer to a LIST is no list of what was asked for. The text says why, in our words."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the answer is no list of its keys ({reason})")


class ListRequest(NamedTuple):
    """One request for keys below a folder."""

    folder: str
    after: str = ""
    """The key behind which to begin ("": at the beginning). A token goes before it."""
    token: str = ""
    """The continuation token of the answer before; "" for none."""
    by_folder: bool = False
    """Whether sub-folders are named, and what lies in them is left out."""

    def parameters(self) -> dict[str, str]:
        """Return the query's parameters by name, in the order of the names."""
        where = {"continuation-token": self.token} if self.token else {"start-after": self.after}
        return {
            name: value
            for name, value in sorted(
                {
                    "delimiter": "/" if self.by_folder else "",
                    "encoding-type": "url",  # XML has no way to write control characters
                    "list-type": "2",
                    "max-keys": str(PAGE_SIZE),
                    "prefix": self.folder,
                    **where,
                }.items()
            )
            if value
        }

    def query(self) -> str:
        """Return the query as SigV4 signs it: sorted, everything but `A-Za-z0-9-._~` encoded."""
        return "&".join(
            f"{name}={quote(value, safe='')}" for name, value in self.parameters().items()
        )


class ListAnswer(NamedTuple):
    """A list of keys."""

    objects: list[Listed]
    folders: list[str]
    """Sub-folders, as whole prefixes."""
    is_last: bool
    token: str
    """The token that the next request carries; "" if the answer has none."""


def list_answer(
    request: ListRequest,
    prefix: str | None,
    is_truncated: bool | None,
    token: str,
    objects: list[Listed],
    folders: list[str],
) -> ListAnswer:
    """Return an answer if its fields fit the request; raises NotAList. None: a field is missing."""
    if prefix != request.folder and (prefix or request.folder):
        raise NotAList("it names another folder, or none")
    if is_truncated is None:
        raise NotAList("it does not say whether it is complete")
    if is_truncated and not token and (request.by_folder or not objects):
        raise NotAList("more keys follow, and it has no token to ask for them")
    if any(listed.size >> _SIZE_BITS for listed in objects):
        raise NotAList("an entry with a size that no object has")
    return ListAnswer(objects, folders, not is_truncated, token if is_truncated else "")


def read_list(body: bytes, request: ListRequest) -> ListAnswer:
    """Read S3's XML. Raises NotAList, or OtherAnswer for S3's `<Error>` document."""
    document = _Document(body)
    fields = document.fields
    if document.root == "Error":
        raise OtherAnswer(_OK, body)
    if document.root != _ROOT:
        raise NotAList("another document")
    is_encoded = fields.get("EncodingType") == "url"
    prefix = fields.get("Prefix")
    try:
        objects = [_listed(entry, is_encoded=is_encoded) for entry in document.contents]
        folders = [_decoded(entry["Prefix"], is_encoded) for entry in document.common_prefixes]
    except KeyError as error:
        raise NotAList(f"an entry without {error.args[0]}") from error
    except ValueError as error:
        raise NotAList("an entry whose size or time cannot be read") from error
    return list_answer(
        request,
        # Some servers encode the keys and not the prefix.
        prefix if prefix is None or prefix == request.folder else _decoded(prefix, is_encoded),
        {"true": True, "false": False}.get(fields.get("IsTruncated", "")),
        fields.get("NextContinuationToken", ""),
        objects,
        folders,
    )


def _listed(entry: Mapping[str, str], *, is_encoded: bool) -> Listed:
    modified = datetime.fromisoformat(entry["LastModified"])
    if modified.tzinfo is None:
        raise ValueError("a time without a zone")
    return Listed(
        _decoded(entry["Key"], is_encoded),
        int(entry["Size"]),
        pack_etag(entry["ETag"]),
        minute_of(modified),
        archived=False,
    )


def _decoded(text: str, is_encoded: bool) -> str:
    if is_encoded and ("%" in text or "+" in text):
        return unquote_plus(text)
    return text


class _Document:
    """The elements of a LIST's answer, as expat comes to them.

    A LIST costs about as much CPU as a tree of elements would, and no memory for one.
    """

    __slots__ = ("_depth", "_entry", "_text", "common_prefixes", "contents", "fields", "root")

    def __init__(self, body: bytes) -> None:
        """Read a whole document; raises NotAList."""
        self.root = ""
        """Name of the root element."""
        self.fields: dict[str, str] = {}
        """Texts of the elements right in the root, by name."""
        self.contents: list[dict[str, str]] = []
        """Of each `Contents`: texts by name."""
        self.common_prefixes: list[dict[str, str]] = []
        self._depth = 0
        self._text = ""
        self._entry: dict[str, str] = {}
        parser = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._add
        try:
            parser.Parse(body, True)
        except expat.ExpatError as error:
            raise NotAList("cut short, or no XML") from error

    def _refuse(self, *_declaration: object) -> None:
        """Refuse a document type, where entities that expand are declared."""
        raise NotAList("another document")

    def _start(self, name: str, _attributes: object) -> None:
        self._depth = depth = self._depth + 1
        self._text = ""
        if depth == 2:
            self._entry = {}
        elif depth == 1:
            self.root = name
        elif depth > _DEPTH_LIMIT:
            raise NotAList("another document")

    def _end(self, name: str) -> None:
        depth = self._depth
        if depth == 3:
            self._entry[name] = self._text
        elif depth == 2:
            if name == "Contents":
                self.contents.append(self._entry)
            elif name == "CommonPrefixes":
                self.common_prefixes.append(self._entry)
            else:
                self.fields[name] = self._text
        self._depth = depth - 1
        self._text = ""

    def _add(self, text: str) -> None:
        self._text += text
