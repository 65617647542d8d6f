"""What an output is to the rest of the core: one interface, whatever keeps the files.

An output has three roots: events, quarantine and Parquet. A file is written whole and durable under
a name that no reader sees, and gets its final name once the ledger says that it counts. Which files
count, and which numbers they have, is the ledger's to say. An output does not know what a line is.

Methods that write raise OutputError; the message says what to do. Methods that read say what they
raise. `open_output` chooses what keeps the files: today a local folder (`local`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from ctrail_pipeline.core.output_files import FileName, Kind, NamedFile, PublishedFile, StagedFile

from .new_files import FileToWrite
from .scatter_limit import ScatterLimit


class Entry(NamedTuple):
    """What has a final name."""

    size: int
    """Bytes."""
    is_file: bool
    """Whether it is a file, which alone can be ours; not a link, say."""


class Marker(NamedTuple):
    """Which ledger a root belongs to, and how new that ledger is."""

    ledger: str
    """The ledger's uuid."""
    generation: int


class Staging(Protocol):
    """The staged files of one batch. Its owner holds it, so that others see that the owner lives.

    Whether an owner lives only saves work: whether a batch counts is the ledger's to say.
    """

    scatter_limit: ScatterLimit
    """How many new folders scattered log files may still make in this run."""

    def open(self) -> None:
        """Make room for the batch's files, and hold it from now on."""

    def write(
        self, files: Sequence[FileToWrite], *, first_part: int = 0, make_folders: bool = True
    ) -> list[StagedFile]:
        """Write files; they are durable when this returns, and no reader sees them.

        The staged files are numbered as parts, from `first_part` on. Unless `make_folders` is
        false, all is prepared that final names need. After an error the batch must be given up.
        """
        ...

    def restage(self, part: int, file: FileToWrite) -> StagedFile:
        """Write a staged file of a committed batch again that vanished.

        The file is whole and durable once it can be published: another run may publish it at once.
        If nobody holds the batch, we hold it from now on.
        """
        ...

    def publish(
        self,
        files: Sequence[PublishedFile],
        rename: Callable[[PublishedFile], PublishedFile],
        linked: Callable[[PublishedFile], None],
    ) -> list[PublishedFile]:
        """Give staged files their final names, durably. Never overwrites; safe to repeat.

        It is safe, too, if two processes do it at once. `rename` gives a file another number if a
        foreign file has its name. `linked` is told of each file that has its name. Returns the
        files that are lost: neither their staged file nor their final name exists.
        """
        ...

    def remove(self) -> None:
        """Remove all staged files of the batch, and hold it no longer."""

    def close(self) -> None:
        """Hold the batch no longer; its files stay."""

    def owner_lives(self) -> bool | None:
        """Whether another process holds the batch; None if nothing is staged here.

        Where no folder can be locked, nobody holds anything: leases say who lives.

        If no process holds the batch, we hold it from now on. So no two processes recover one
        batch at once.
        """
        ...


class Output(Protocol):
    """The roots of events, quarantine and Parquet, and the files in them.

    A file is named by its kind, its folder relative to the kind's root, and its name. Not for use
    after `close`.
    """

    lock_folder: Path | None
    """The folder whose lock keeps runs and rebuilds apart, as do those of staging folders. None
    where there are no folders that can be locked (`core.claims`)."""
    late_copy_seconds: int
    """How long a file may take to get its final name once that was asked for. A file that is
    removed earlier may come back, asked for by a run that was paused. 0 where a name is given to
    the staged file itself, so that nothing comes once the staged file is gone."""

    def close(self) -> None:
        """End what works in the background."""

    # -- names ------------------------------------------------------------------------------------

    def location(self, kind: Kind) -> str:
        """Return how messages name a root."""
        ...

    def address_of(self, file: NamedFile) -> str:
        """Return how messages, and programs that read the output, name a file."""
        ...

    def files_meant_by(self, text: str) -> Iterator[FileName]:
        """Yield the files that a person may mean: by an address, or relative to a root."""
        ...

    # -- before work ------------------------------------------------------------------------------

    def probe(self) -> None:
        """Raise OutputError if staged files could not be published here, and say why."""

    def make(self, kind: Kind) -> None:
        """Make a root where it is missing, durably."""

    def holds_files(self, kind: Kind) -> bool:
        """Whether a root holds anything but staged files and markers."""
        ...

    def free_name(self) -> str:
        """Return a name for `events_dir` under which nothing is yet, beside the configured one."""
        ...

    def warn_if_open(self) -> None:
        """Log a warning for each root that others may read."""

    # -- markers: `marker` says what they are for -------------------------------------------------

    def read_marker(self, kind: Kind) -> Marker | None:
        """Return the marker of a root, or None where there is none.

        Raises LedgerError if the marker cannot be read.
        """
        ...

    def is_marked(self, kind: Kind) -> bool:
        """Whether a root has a marker, even a damaged one."""
        ...

    def replace_marker(self, kind: Kind, marker: Marker, seen: Marker | None) -> bool:
        """Replace the marker that was read as `seen`, durably.

        Returns False, and leaves the marker as it is, if it has changed since it was read.
        """
        ...

    def remove_unfinished_markers(self, kind: Kind) -> None:
        """Remove what a writer of markers left that was killed."""

    # -- staged files -----------------------------------------------------------------------------

    def stage_for(self, ledger: str) -> None:
        """Note the uuid of the ledger whose batches are staged here, before any is.

        Outputs that are neighbours may share the place of their staged files.
        """

    def staging_of(self, token: str) -> Staging:
        """Return the staged files of a batch; nothing is touched yet."""
        ...

    def staging_tokens(self) -> set[str]:
        """Return the tokens of the batches of which something is staged here.

        Raises OutputError if what lies there is not ours to remove.
        """
        ...

    def remove_unowned_staging(self) -> None:
        """Remove what owners left that died in the instant before they held their batch."""

    # -- files with final names -------------------------------------------------------------------

    def entry(self, file: NamedFile) -> Entry | None:
        """Return what has a file's name; None if nothing has. Raises OSError."""
        ...

    def entries(self, kind: Kind, folder: str) -> Mapping[str, Entry]:
        """Return what lies directly in a folder, by name, without the folders. Raises OSError."""
        ...

    def walk(self, kind: Kind, below: str = "") -> Iterator[tuple[str, Sequence[str]]]:
        """Yield each folder below one that holds files, with their names, in order of the names.

        Staged files are left out, and so is what lies behind a link or cannot be listed.
        """
        ...

    def open(self, file: NamedFile) -> BinaryIO:
        """Open a file to be read from its beginning, in pieces.

        Raises FileNotFoundError if there is none, OSError if it cannot be read; reading raises
        OSError, too.
        """
        ...

    def read_range(self, file: NamedFile, start: int, size: int) -> bytes:
        """Return `size` bytes of a file from `start` on; fewer at its end. Raises as `open`."""
        ...

    def on_disk(self, file: NamedFile) -> AbstractContextManager[Path]:
        """Yield a path at which libraries that need one read the file. Raises as `open`."""
        ...

    def remove(self, files: Sequence[NamedFile]) -> None:
        """Remove files, durably. Safe to repeat."""

    def set_aside(self, file: NamedFile, name: str) -> str:
        """Give a file another name in its folder, durably; return its new address."""
        ...

    def append(self, file: NamedFile, lines: bytes) -> None:
        """Append whole lines to a file, durably; make the file where there is none.

        For one writer at a time. After an error none of the lines is there, unless the error came
        when they were made durable.
        """
