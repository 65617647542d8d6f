"""The names of the output's objects: roots, files, staged parts. No request is made here."""

from collections.abc import Iterator
from typing import Final

from ctrail_pipeline.core.output_address import BucketAddress
from ctrail_pipeline.core.output_files import FileName, Kind, NamedFile
from ctrail_pipeline.core.settings import OutputBucket

STAGING: Final = ".staging"
"""Name beside the root of events below which all staged objects lie."""
_PROBES: Final = ".probes"
"""Name beside the staged objects of all ledgers for what `conditions.probe` writes."""


class Names:
    """The names of all objects of an output, whose ledger may still be unknown."""

    def __init__(self, bucket: OutputBucket) -> None:
        self.roots: dict[Kind, BucketAddress] = {
            Kind.EVENTS: bucket.events,
            Kind.QUARANTINE: bucket.quarantine,
            Kind.PARQUET: bucket.parquet,
        }
        self.ledger = "none"
        """The uuid of the ledger whose batches are staged."""

    def root(self, kind: Kind) -> str:
        """Return what all keys of a kind begin with."""
        return f"{self.roots[kind].prefix}/"

    def folder(self, kind: Kind, folder: str) -> str:
        """Return what all keys in a folder begin with; "" is the root."""
        return f"{self.root(kind)}{folder}/" if folder else self.root(kind)

    def key(self, file: NamedFile) -> str:
        """Return the key of a file."""
        return self.folder(file.kind, file.folder) + file.name

    def address(self, file: NamedFile) -> str:
        """Return the URL of a file."""
        return f"s3://{self.roots[file.kind].bucket}/{self.key(file)}"

    @property
    def staging_root(self) -> str:
        """What all keys of staged objects begin with, of batches of this ledger."""
        return f"{self.roots[Kind.EVENTS].beside(STAGING).prefix}/{self.ledger}/"

    @property
    def probes(self) -> str:
        """What all keys of probes begin with: a server is asked before a ledger is known, too."""
        return f"{self.roots[Kind.EVENTS].beside(STAGING).prefix}/{_PROBES}/"

    def staging(self, token: str) -> str:
        """Return what all keys of a batch's staged objects begin with."""
        return f"{self.staging_root}{token}/"

    def part(self, token: str, part: int) -> str:
        """Return the key of a staged object."""
        return f"{self.staging(token)}{part:05d}.part"

    def meant_by(self, text: str) -> Iterator[FileName]:
        """Yield the files that a URL, or a path below a root, may mean."""
        for kind, root in self.roots.items():
            below = text.removeprefix(f"{root}/")
            if below and "://" not in below and not below.startswith("/"):
                folder, _, name = below.rpartition("/")
                yield FileName(kind, folder, name)
