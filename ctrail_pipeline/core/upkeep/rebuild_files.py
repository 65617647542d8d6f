"""Finding the output files of an existing output folder by their names.

What else lies in the folder is named as a problem and left alone.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ctrail_pipeline.core.output.folders import STAGING, OutputFolders
from ctrail_pipeline.core.output.marker import MARKER
from ctrail_pipeline.core.output_files import Kind

from .accepted_file import ACCEPTED_FILE
from .parquet_repair import SET_ASIDE
from .rebuild_result import Rebuilt

EVENTS_FILE: Final = re.compile(
    r"(\d{12}/[a-z0-9-]{1,40}/\d{4}/\d{2}/\d{2}/\d{2})/events_(\d{5,9})\.jsonl"
)
_QUARANTINE_FILE: Final = re.compile(r"(\d{4}/\d{2}/\d{2}|undated)/quarantine_(\d{5,9})\.jsonl")
_PARQUET_FILE: Final = re.compile(
    r"(account=\d{12}/region=[a-z0-9-]{1,40}/date=\d{4}-\d{2}-\d{2})/part-(\d{5,9})\.parquet"
)
_NAMES: Final = {
    Kind.EVENTS: EVENTS_FILE,
    Kind.QUARANTINE: _QUARANTINE_FILE,
    Kind.PARQUET: _PARQUET_FILE,
}


def output_files(
    folders: OutputFolders, kinds: Sequence[Kind], result: Rebuilt
) -> Iterator[tuple[Kind, Path, str, int]]:
    """Yield each output file: kind, path, folder, number. Note each other file as a problem."""
    for kind in kinds:
        pattern = _NAMES[kind]
        root = folders.roots[kind]
        for parent, names, file_names in os.walk(root):
            if Path(parent) == root and STAGING in names:
                names.remove(STAGING)
            names.sort()
            for name in sorted(file_names):
                path = Path(parent, name)
                relative = path.relative_to(root).as_posix()
                match = pattern.fullmatch(relative)
                if match is not None and path.is_file() and not path.is_symlink():
                    yield kind, path, match[1], int(match[2])
                elif kind is Kind.QUARANTINE and relative == ACCEPTED_FILE:
                    continue
                elif not relative.startswith(MARKER) and SET_ASIDE not in name:
                    result.note(f"{path}: not a file of this program; it is left alone")
