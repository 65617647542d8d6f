"""Where the output lies: in local folders, or below prefixes of one bucket."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

BUCKET_SCHEME: Final = "s3://"


@dataclass(frozen=True)
class BucketAddress:
    """A prefix of a bucket, which is to objects what a folder is to files."""

    bucket: str
    prefix: str
    """Without a slash at either end. Never empty: staged files lie beside the prefix of events."""

    def __str__(self) -> str:
        """Return the URL, without a slash at its end."""
        return f"{BUCKET_SCHEME}{self.bucket}/{self.prefix}"

    def __truediv__(self, name: str) -> "BucketAddress":
        """Return the address of what lies below."""
        return BucketAddress(self.bucket, f"{self.prefix}/{name}")

    @property
    def name(self) -> str:
        """The last part of the prefix."""
        return self.prefix.rpartition("/")[2]

    def beside(self, name: str) -> "BucketAddress":
        """Return the address of another name in the same place."""
        parent, slash, _ = self.prefix.rpartition("/")
        return BucketAddress(self.bucket, f"{parent}{slash}{name}")

    def is_relative_to(self, other: "BucketAddress") -> bool:
        """Whether this is another address, or lies below it."""
        return self.bucket == other.bucket and f"{self.prefix}/".startswith(f"{other.prefix}/")


OutputAddress: TypeAlias = Path | BucketAddress


def bucket_address(text: str) -> BucketAddress | None:
    """Return the address in a bucket that a URL names; None for a path."""
    if not text.startswith(BUCKET_SCHEME):
        return None
    bucket, _, prefix = text.removeprefix(BUCKET_SCHEME).partition("/")
    return BucketAddress(bucket, prefix.strip("/"))
