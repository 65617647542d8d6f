"""A configured trail -> its bucket, in S3 or in a local folder.

Further functions do in S3 what the interface of all buckets does not offer: to read many objects at
once, to read an object with its user metadata, and to say where the bucket is.
"""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.settings import Settings, Trail

from .boundary import boundary
from .endpoint import Endpoint
from .interface import Bucket, Described, Fetched
from .local import LocalBucket
from .s3 import S3Bucket


def open_bucket(trail: Trail, settings: Settings, known: Endpoint | None = None) -> Bucket:
    """Open the bucket of a trail, with credentials. The bucket is asked nothing yet.

    `known`: where the bucket is, if another process has found it already. Raises StoreError,
    whatever session, credentials or client raise.
    """
    if trail.bucket.startswith("file://"):
        return LocalBucket(Path(unquote(urlsplit(trail.bucket).path)))
    with boundary(trail):
        return S3Bucket(trail, settings, known)


def known_endpoint(bucket: Bucket) -> Endpoint | None:
    """Return where a bucket in S3 is, as far as is known now."""
    return bucket.endpoint if isinstance(bucket, S3Bucket) else None


def get_all(
    bucket: Bucket, wanted: Sequence[tuple[str, bytes | None]]
) -> "list[Fetched | StoreError]":
    """Read objects by key and etag, each as `Bucket.get` does, and return an object or error each.

    A bucket in S3 is asked for all of them side by side.
    """
    if isinstance(bucket, S3Bucket):
        return bucket.get_all(wanted)
    found: list[Fetched | StoreError] = []
    for key, etag in wanted:
        try:
            found.append(bucket.get(key, etag))
        except StoreError as error:
            found.append(error)
    return found


def get_described(bucket: Bucket, key: str) -> Described:
    """Read one object whole, with its user metadata. Files have no metadata."""
    if isinstance(bucket, S3Bucket):
        return bucket.get_described(key)
    return Described(bucket.get(key, None).body, {})
