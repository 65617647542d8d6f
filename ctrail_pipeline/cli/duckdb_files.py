"""The files of an output as a file system for DuckDB: for an output that is no local folder.

DuckDB's own client of S3 is an extension that would be fetched from the network. So DuckDB is given
a file system of fsspec, which reads through the output. Nothing can be written by it.
"""

from collections.abc import Mapping
from typing import Any, Final

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from ctrail_pipeline.core.output.interface import Output
from ctrail_pipeline.core.output_files import NamedFile

PROTOCOL: Final = "ctrail"
"""Begins the names of files here."""
_PIECE_BYTES: Final = 8 * 1024 * 1024
"""Bytes of a request: most files come with the first one."""


class OutputFiles(AbstractFileSystem):  # type: ignore[misc]
    """Files of an output, by the names that `name_of` gives them."""

    protocol = PROTOCOL
    cachable = False

    def __init__(self, output: Output, files: Mapping[str, NamedFile]) -> None:
        """`files`: those that can be read, by name without the protocol."""
        super().__init__()
        self.output = output
        self.files = files

    def glob(self, path: str, **_options: Any) -> list[str]:
        """Return the name itself: no name here is a pattern."""
        return [self._strip_protocol(path)]

    def info(self, path: str, **_options: Any) -> dict[str, Any]:
        """Return the size of a file. Raises FileNotFoundError."""
        name = self._strip_protocol(path)
        file = self.files[name]
        size = getattr(file, "size", None)
        if size is None:
            entry = self.output.entry(file)
            if entry is None:
                raise FileNotFoundError(self.output.address_of(file))
            size = entry.size
        return {"name": name, "size": size, "type": "file"}

    def _open(self, path: str, mode: str = "rb", **_options: Any) -> "_OpenFile":
        return _OpenFile(self, path, mode, block_size=_PIECE_BYTES, cache_type="readahead")


class _OpenFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file that is read in pieces."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        files: OutputFiles = self.fs
        name = files._strip_protocol(self.path)  # noqa: SLF001 - fsspec's way
        return files.output.read_range(files.files[name], start, end - start)


def name_of(file: NamedFile) -> str:
    """Return the name of a file here, without the protocol."""
    return f"events/{file.folder}/{file.name}"
