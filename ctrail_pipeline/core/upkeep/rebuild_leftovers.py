"""Files of events that an interrupted compaction left, when the ledger that knew it is lost."""

from collections import Counter
from collections.abc import Iterable

from ctrail_pipeline.core.log_file.identity import identity_of
from ctrail_pipeline.core.output.folders import OutputFolders
from ctrail_pipeline.core.output_files import Kind, PublishedFile

from .rebuild_files import EVENTS_FILE
from .rebuild_lines import lines_of


def compaction_leftovers(folders: OutputFolders, doubled_in: Iterable[str]) -> list[PublishedFile]:
    """What an interrupted compaction left in these folders of events and can be spared.

    Before it was decided that the old files go, all of them are there, and the merged ones, whose
    numbers are higher, can be spared; afterwards it is the other way round. If neither leaves every
    line once, somebody else has doubled them: all stays as it is.
    """
    found = []
    for folder in sorted(doubled_in):
        files = []
        for path in sorted((folders.roots[Kind.EVENTS] / folder).glob("events_*.jsonl")):
            match = EVENTS_FILE.fullmatch(f"{folder}/{path.name}")
            if match:
                lines = [identity_of(line) for some in lines_of(path) for line in some]
                files.append((int(match[2]), lines))
        files.sort(reverse=True)
        for ordered in (files, files[::-1]):
            held = Counter(line for _, lines in files for line in lines)
            spared = []
            for number, lines in ordered:
                if all(held[line] > 1 for line in lines):
                    held.subtract(lines)
                    spared.append(PublishedFile(0, Kind.EVENTS, folder, number, 0))
            if held.total() == len(held):
                found += spared
                break
    return found
