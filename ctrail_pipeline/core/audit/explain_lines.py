"""Finding the lines of the output that somebody asks for.

An eventID is looked up in the hashes that the ledger keeps, so that only the hours that may hold
the event are read. Other events are found by reading the hours that may hold them. A line may also
be named by its file and number. Where a line came from belongs to `explain`.
"""

import logging
import re
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from ctrail_pipeline.core.exceptions import ConfigurationError, OutputError
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.packed_identities import held_among
from ctrail_pipeline.core.ledger.queries_explain import segments_of_events
from ctrail_pipeline.core.ledger.queries_output import OutputFile, output_files, output_folders
from ctrail_pipeline.core.log_file.identity import EVENT_KEY_BYTES, event_key_of
from ctrail_pipeline.core.output.compression import open_text
from ctrail_pipeline.core.output.interface import Output
from ctrail_pipeline.core.output_files import Kind

from .sought import EVENT_ID_LENGTH, Sought

log = logging.getLogger(__name__)

_LINE: Final = re.compile(r"(?P<path>.+\.jsonl(?:\.gz|\.zst)?):(?P<line>[1-9][0-9]{0,8})")
_FILE: Final = re.compile(r"(events|quarantine)_([0-9]{5,9})\.jsonl(?:\.gz|\.zst)?")


class Line(NamedTuple):
    """A line of the output."""

    file: OutputFile
    number: int
    """The line's number in its file, from 1."""
    data: bytes
    """The line without its line feed."""


class LineSearch:
    """Finds lines of the output."""

    def __init__(self, ledger: Ledger, output: Output) -> None:
        self._ledger = ledger
        self._output = output

    def lines(self, sought: Sought) -> Iterator[Line]:
        """Yield the lines that fit, hour by hour; memory does not depend on how many there are.

        A file that cannot be read to its end is named in the log, and the others are searched.
        """
        for folder in self._folders_of(sought):
            for file in output_files(self._ledger, Kind.EVENTS, folder):
                if file.is_expected:
                    yield from self._fitting_lines_of(file, sought)

    def line_at(self, text: str) -> Line:
        """Return the line that `…/events_00001.jsonl:17` names.

        The path is relative to the working directory or to the output. Raises ConfigurationError if
        there is no such line.
        """
        match = _LINE.fullmatch(text)
        if match is None:
            raise ConfigurationError(
                f"{text!r} is no line of a file, such as events_00001.jsonl:17"
            )
        number = int(match["line"])
        for meant in self._output.files_meant_by(match["path"]):
            name = _FILE.fullmatch(meant.name)
            if name is None:
                continue
            for file in output_files(self._ledger, meant.kind, meant.folder):
                if file.number == int(name[2]) and file.published.name == meant.name:
                    return self._line_of(file, number)
        raise ConfigurationError(f"{match['path']}: the ledger knows no such file of the output")

    def _folders_of(self, sought: Sought) -> Iterator[str]:
        """Yield the folders that may hold what is sought."""
        if sought.event_id is None:
            yield from filter(sought.may_lie_in, output_folders(self._ledger, Kind.EVENTS))
            return
        key = {event_key_of(sought.event_id[:EVENT_ID_LENGTH])}
        folders: dict[str, None] = {}
        for partition, event_keys in segments_of_events(self._ledger):
            # The account may be the caller's, and the folder another account's (`dedup_partition`).
            # A region that the record lacks ("-") came from its log file's key.
            _, region, hour = partition.split("/", 2)
            if not sought.may_lie_in(f"-/{region}/{hour}"):
                continue
            if held_among(key, event_keys, EVENT_KEY_BYTES):
                for folder in output_folders(self._ledger, Kind.EVENTS, hour):
                    if region in ("-", folder.split("/")[1]):
                        folders[folder] = None
        yield from filter(sought.may_lie_in, sorted(folders))

    def _fitting_lines_of(self, file: OutputFile, sought: Sought) -> Iterator[Line]:
        try:
            for number, data in self._read(file):
                if sought.fits(data):
                    yield Line(file, number, data)
        except OutputError as error:
            log.error("%s", error)

    def _read(self, file: OutputFile) -> Iterator[tuple[int, bytes]]:
        """Yield a file's lines; none if there is no file. Raises OutputError."""
        try:
            with open_text(self._output, file.published) as lines:
                for number, line in enumerate(lines, 1):
                    yield number, line.removesuffix(b"\n")
        except FileNotFoundError:
            return  # verify names what is missing
        except OSError as error:
            path = self._output.address_of(file.published)
            raise OutputError(
                f"{path} cannot be read to its end: {error.strerror}; run ctrail verify --deep"
            ) from error

    def _line_of(self, file: OutputFile, number: int) -> Line:
        for _, data in islice(self._read(file), number - 1, number):
            return Line(file, number, data)
        path = self._output.address_of(file.published)
        raise ConfigurationError(
            f"{path} has no line {number}: {file.lines} were written"
            + ("" if file.is_expected else ", and it was pruned or is not published yet")
        )
