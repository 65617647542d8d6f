"""A bucket that is not open in this process: it answers every request with the reason.

A worker process gets each bucket so from the run, and opens it. If that fails, each log file of the
bucket fails by itself, and the worker goes on with the other buckets.
"""

from ctrail_pipeline.core.bucket.endpoint import Endpoint
from ctrail_pipeline.core.bucket.interface import Fetched, Folder, Page
from ctrail_pipeline.core.exceptions import StoreError


class UnopenedBucket:
    """A bucket that cannot be opened: each of its log files fails for that reason."""

    location = ""

    def __init__(self, reason: StoreError | None, endpoint: Endpoint | None = None) -> None:
        """`endpoint`: where the bucket is, as the run has found it."""
        self._reason = reason or StoreError("the bucket is not open")
        self.endpoint = endpoint

    def get(self, key: str, etag: bytes | None) -> Fetched:  # noqa: ARG002
        """Raise the reason."""
        raise self._reason

    def list_folder(self, folder: str, *, expected: bool = False) -> Folder:  # noqa: ARG002
        """Raise the reason."""
        raise self._reason

    def list_page(self, folder: str, after: str, *, expected: bool = False) -> Page:  # noqa: ARG002
        """Raise the reason."""
        raise self._reason

    def probe(self, key: str) -> None:  # noqa: ARG002
        """Raise the reason."""
        raise self._reason
