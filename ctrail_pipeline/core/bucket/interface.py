"""What a bucket is to the rest of the core: one interface, read only, for S3 and for folders.

Errors come as the classes of `exceptions`, and name bucket, key and the permission that is missing.
The caller decides what to do about an error (try again later, record, give up); a request that may
succeed was tried again first. Nothing here knows what a log file is.
"""

from typing import Final, NamedTuple, Protocol

from ctrail_pipeline.core.keys.minutes import Minute

PAGE_SIZE: Final = 1000
"""Keys of one LIST answer: S3 gives no more."""


class Listed(NamedTuple):
    """An object as a listing shows it."""

    key: str
    size: int
    etag: bytes
    """The etag as the ledger keeps it (`etag.pack_etag`)."""
    modified: Minute
    """LastModified, by the server's clock."""
    archived: bool
    """Whether LIST said that the object must be restored first (False where that is unknown)."""


class Folder(NamedTuple):
    """Sub-folders and objects that lie directly in a folder."""

    folders: list[str]
    """Names of the sub-folders, without slashes."""
    objects: list[Listed]


class Page(NamedTuple):
    """One page of a listing."""

    objects: list[Listed]
    last: bool
    """Whether no page follows."""


class Fetched(NamedTuple):
    """An object's bytes, and the etag of this version."""

    body: bytes
    etag: bytes
    retries: int
    """How often the object was asked for again."""


class Described(NamedTuple):
    """An object's bytes and its user metadata."""

    body: bytes
    metadata: dict[str, str]
    """Values by lower-case name, without `x-amz-meta-`."""


class Bucket(Protocol):
    """A bucket that can be listed and read. Keys are S3's; folders end in a slash.

    Each key and each sub-folder comes once in a listing, whatever the server repeats. `expected`
    says that an answer has just shown that there is something: a listing of the parent has named
    the folder, or the page before was not the last. An empty answer is then doubted, and the folder
    is asked for once more.
    """

    location: str
    """How messages name the bucket: `s3://name` or a `file://` URL."""

    def list_folder(self, folder: str, *, expected: bool = False) -> Folder:
        """List the sub-folders and objects in `folder` (a delimiter listing, all pages)."""
        ...

    def list_page(self, folder: str, after: str, *, expected: bool = False) -> Page:
        """List the objects below `folder` in key order behind the key `after` ("": all).

        A page that is not the last one holds at least one object. A page may begin with keys before
        `after`, where the server turns out to list in another order.
        """
        ...

    def get(self, key: str, etag: bytes | None) -> Fetched:
        """Read one object whole; raise ObjectChanged if its etag is not the given `etag`."""
        ...

    def probe(self, key: str) -> None:
        """Read at most the first byte of an object; raises the errors that `get` would raise."""
        ...
