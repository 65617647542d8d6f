"""`ctrail manifest`: write the list for a case file. What stands in it is `core.manifest`'s."""

import sys
from pathlib import Path

from ctrail_pipeline.core.audit.manifest import manifest
from ctrail_pipeline.core.audit.sought import Sought
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.reports.private_files import write_private

from .exit_codes import EXIT_OK


def run_manifest(settings: Settings, sought: Sought, path: Path | None) -> int:
    """Write the manifest to a new file, private, or to the standard output; the exit code."""
    if path is not None:
        write_private(path, manifest(settings, sought), replace=False)
        return EXIT_OK
    for line in manifest(settings, sought):
        sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
    return EXIT_OK
