"""What a bucket is to the rest of the core: one interface, read only, for S3 and for folders.

Errors come as the classes of `exceptions`, naming bucket, key and the permission that is missing.
What to do about an error (try again, record, give up) is the caller's decision; a request that may
pass is retried first. Nothing here knows what a log file is.
"""

from typing import Final, NamedTuple, Protocol

from ctrail_pipeline.core.keys.key_time import Minute

PAGE_SIZE: Final = 1000
"""Keys of one LIST answer: what S3 gives at most."""


class Listed(NamedTuple):
    """An object as a listing shows it."""

    key: str
    size: int
    etag: bytes
    """The etag as the ledger keeps it: see `pack_etag`."""
    modified: Minute
    """LastModified, the server's clock."""
    archived: bool
    """Whether LIST said that it must be restored before it can be read (False where unknown)."""


class Folder(NamedTuple):
    """What lies directly in a folder."""

    folders: list[str]
    """Names of its sub-folders, without slashes."""
    objects: list[Listed]


class Page(NamedTuple):
    """One page of a listing."""

    objects: list[Listed]
    last: bool
    """Whether nothing follows."""


class Fetched(NamedTuple):
    """An object's bytes, with the etag they belong to."""

    body: bytes
    etag: bytes
    retries: int


class Described(NamedTuple):
    """An object's bytes and its user metadata."""

    body: bytes
    metadata: dict[str, str]
    """By lower-case name, without `x-amz-meta-`."""


class Bucket(Protocol):
    """A bucket that can be listed and read. Keys are as S3 has them; folders end in a slash."""

    location: str
    """How messages name it: `s3://name` or a `file://` URL."""

    def list_folder(self, folder: str) -> Folder:
        """List what lies directly in `folder` (a delimiter listing, all pages)."""
        ...

    def list_page(self, folder: str, after: str) -> Page:
        """List what lies below `folder` in key order behind the key `after` ("": all)."""
        ...

    def get(self, key: str, etag: bytes | None) -> Fetched:
        """Read one object whole; with `etag`, raise ObjectChanged if it is another version."""
        ...

    def probe(self, key: str) -> None:
        """Read the first byte of an object, as far as may be; raises what `get` would."""
        ...
