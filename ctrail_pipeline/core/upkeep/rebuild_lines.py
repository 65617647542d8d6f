"""Reading the lines of output files back: which event or which quarantined record each line is.

A line that this program cannot have written is returned as None.
"""

import base64
import json
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

from ctrail_pipeline.core.batch.quarantine import quarantine_identity
from ctrail_pipeline.core.exceptions import OutputError
from ctrail_pipeline.core.ledger.dedup_partition import dedup_partition
from ctrail_pipeline.core.log_file.decompress import Decompressed
from ctrail_pipeline.core.log_file.identity import event_key_of, identity_of
from ctrail_pipeline.core.log_file.split import split
from ctrail_pipeline.core.output.compression import DamagedText, HashedBytes, text_of
from ctrail_pipeline.core.output.interface import Output
from ctrail_pipeline.core.output_files import NamedFile, compression_of

_BYTES_AT_ONCE: Final = 4 * 1024 * 1024


class FileLines:
    """The lines of an output file, and what its stored bytes are once all lines were read."""

    def __init__(self, output: Output, file: NamedFile) -> None:
        self._output = output
        self._file = file
        self.damage = ""
        """Where compressed bytes are damaged: what is wrong. Lines behind it are not yielded."""
        self.size = 0
        """Stored bytes."""
        self.sha256 = b""
        """Of the stored bytes."""

    def __iter__(self) -> Iterator[list[bytes]]:
        """Yield the lines with their line feeds, about 4 MB at a time.

        Raises OutputError if the file cannot be read.
        """
        try:
            with self._output.open(self._file) as opened:
                stored = HashedBytes(opened)
                text = text_of(stored.buffered, compression_of(self._file.name))
                yield from self._lines_in(text)
                self.size, self.sha256 = stored.rest()
        except OSError as error:
            path = self._output.address_of(self._file)
            raise OutputError(f"{path} cannot be read: {error.strerror}") from error

    def _lines_in(self, text: BinaryIO) -> Iterator[list[bytes]]:
        lines: list[bytes] = []
        size = 0
        try:
            for line in text:
                lines.append(line)
                size += len(line)
                if size >= _BYTES_AT_ONCE:
                    yield lines
                    lines, size = [], 0
        except DamagedText as error:
            self.damage = error.strerror or ""
        if lines:
            yield lines


class WrittenLine(NamedTuple):
    """What a line of the output stands for."""

    partition: str
    """The dedup partition in which copies of the line meet."""
    identity: bytes
    event_key: bytes
    time: str
    """The eventTime."""
    text: bytes


def events_in(lines: list[bytes], _folder: str) -> list[WrittenLine | None]:
    """Return what the lines of an events file stand for; None for lines of another program."""
    texts = [line.removesuffix(b"\n") for line in lines]
    data = b'{"Records":[' + b",".join(texts) + b"]}"
    content = split(Decompressed(data, None, b""))
    sound = content.damage is None and not content.rejected
    if not sound or len(content.records) != len(lines):
        if len(lines) == 1:
            return [None]
        return [event for line in lines for event in events_in([line], _folder)]
    return [
        WrittenLine(
            dedup_partition(
                record.routing.dedup_account, record.routing.region, record.routing.hour
            ),
            identity_of(text),
            event_key_of(record.event_id) if record.event_id else b"",
            record.time,
            text,
        )
        if line.endswith(b"\n")
        else None
        for record, line, text in zip(content.records, lines, texts, strict=True)
    ]


def quarantined_in(lines: list[bytes], folder: str) -> list[WrittenLine | None]:
    """Return what the lines of a quarantine file stand for; None for lines of another program."""
    return [_quarantined_line(line, folder) for line in lines]


def _quarantined_line(line: bytes, folder: str) -> WrittenLine | None:
    try:
        entry = json.loads(line)
        data = (
            entry["data"].encode()
            if "data" in entry
            else base64.b64decode(entry["data_base64"], validate=True)
        )
        identity = quarantine_identity(entry["bucket"], entry["key"], entry["kind"], data)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return WrittenLine(f"quarantine/{folder}", identity, b"", "", line)
