"""Finding the files of events that an interrupted compaction left, when the ledger is lost.

Only the ledger knew whether the old files or the merged files count. Here their lines decide.
"""

from collections import Counter
from collections.abc import Iterable

from ctrail_pipeline.core.log_file.identity import identity_of
from ctrail_pipeline.core.output.interface import Output
from ctrail_pipeline.core.output_files import FileName, Kind

from .rebuild_files import EVENTS_FILE
from .rebuild_lines import FileLines


def compaction_leftovers(output: Output, doubled_in: Iterable[str]) -> list[FileName]:
    """Return the files in these folders of events that can be spared after a broken compaction.

    Before the ledger decides that the old files go, all old files are there, and the merged files
    can be spared; their numbers are higher. Afterwards the old files can be spared. If neither
    choice leaves every line once, another program has doubled lines, and all files stay.
    """
    leftovers = []
    for folder in sorted(doubled_in):
        files = []
        for name in output.entries(Kind.EVENTS, folder):
            match = EVENTS_FILE.fullmatch(f"{folder}/{name}")
            if match:
                file = FileName(Kind.EVENTS, folder, name)
                lines = [identity_of(line) for lines in FileLines(output, file) for line in lines]
                files.append((int(match[2]), file, lines))
        files.sort(reverse=True)
        for ordered in (files, files[::-1]):
            held = Counter(line for _, _, lines in files for line in lines)
            spared = []
            for _, file, lines in ordered:
                if all(held[line] > 1 for line in lines):
                    held.subtract(lines)
                    spared.append(file)
            if held.total() == len(held):
                leftovers += spared
                break
    return leftovers
