"""Files that a command writes for a person: private (0600), and whole or not there at all.

Not here: output files (`core.output`), and the configuration file (`config.generate`).
"""

from collections.abc import Iterable
from pathlib import Path

from ctrail_pipeline.core.durable import write_whole
from ctrail_pipeline.core.exceptions import OutputError


def write_private(path: Path, pieces: Iterable[bytes], *, replace: bool) -> None:
    """Write a file from pieces, as they come; `replace` replaces a file that is there.

    Raises OutputError if the file cannot be written, or is there and may not be replaced.
    """
    try:
        write_whole(path, pieces, replace=replace)
    except FileExistsError as error:
        raise OutputError(f"{path} is there already: name another file, or move it away") from error
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
