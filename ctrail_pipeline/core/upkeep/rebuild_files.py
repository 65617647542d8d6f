"""Finding the output files of an existing output folder by their names.

What else lies in the folder is named as a problem and left alone.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from ctrail_pipeline.core.output.interface import Output
from ctrail_pipeline.core.output.marker import MARKER
from ctrail_pipeline.core.output_files import FileName, Kind

from .accepted_file import ACCEPTED_FILE
from .parquet_repair import SET_ASIDE
from .rebuild_result import Rebuilt

EVENTS_FILE: Final = re.compile(
    r"(\d{12}/[a-z0-9-]{1,40}/\d{4}/\d{2}/\d{2}/\d{2})/events_(\d{5,9})\.jsonl(?:\.gz|\.zst)?"
)
_QUARANTINE_FILE: Final = re.compile(
    r"(\d{4}/\d{2}/\d{2}|undated)/quarantine_(\d{5,9})\.jsonl(?:\.gz|\.zst)?"
)
_PARQUET_FILE: Final = re.compile(
    r"(account=\d{12}/region=[a-z0-9-]{1,40}/date=\d{4}-\d{2}-\d{2})/part-(\d{5,9})\.parquet"
)
_NAMES: Final = {
    Kind.EVENTS: EVENTS_FILE,
    Kind.QUARANTINE: _QUARANTINE_FILE,
    Kind.PARQUET: _PARQUET_FILE,
}


def output_files(
    output: Output, kinds: Sequence[Kind], result: Rebuilt
) -> Iterator[tuple[FileName, int]]:
    """Yield each output file with its number. Note each other file as a problem."""
    for kind in kinds:
        for folder, names in output.walk(kind):
            entries = output.entries(kind, folder)
            for name in names:
                file = FileName(kind, folder, name)
                match = _NAMES[kind].fullmatch(f"{folder}/{name}")
                if match is not None and name in entries and entries[name].is_file:
                    yield file, int(match[2])
                elif file != ACCEPTED_FILE and not _is_ours(file):
                    result.note(
                        f"{output.address_of(file)}: not a file of this program; it is left alone"
                    )


def _is_ours(file: FileName) -> bool:
    """Whether a file is a marker, or was set aside by a rebuild."""
    return SET_ASIDE in file.name or (not file.folder and file.name.startswith(MARKER))
