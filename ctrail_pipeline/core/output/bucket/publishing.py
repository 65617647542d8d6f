"""Gives the staged objects of a committed batch their final names.

Publishing copies each object if its name is free, so it never overwrites and can be repeated. The
copy carries the metadata of the staged object: by it, an object under a final name is ours or not.
A copy counts once it is seen under its name, whatever the answer to the COPY was. Staged objects go
after all copies of the batch are there. Which names they get is the ledger's to say.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import Final

from ctrail_pipeline.core.exceptions import ObjectGone, StoreUnavailable
from ctrail_pipeline.core.output.writer_threads import WriterThreads
from ctrail_pipeline.core.output_files import PublishedFile

from .conditions import Conditions
from .names import Names
from .object_store import Found

PART: Final = "ctrail-part"
"""Name of the metadata that says which part of which batch an object is: `<token>/<part>`."""
_TRIES: Final = 5


class _Outcome(Enum):
    PUBLISHED = "published"
    FOREIGN = "another object has the name"
    LOST = "there is neither a staged object nor ours under the final name"


def publish_objects(
    conditions: Conditions,
    names: Names,
    threads: WriterThreads,
    token: str,
    files: Sequence[PublishedFile],
    rename: Callable[[PublishedFile], PublishedFile],
    linked: Callable[[PublishedFile], None],
) -> list[PublishedFile]:
    """Give objects their final names, many at once. Safe to repeat, and for two processes at once.

    `rename` gives a file another number if a foreign object has its name. `linked` is told of each
    file that has its name. Returns the files that are lost. Raises StoreError.
    """
    lost = []
    pending = list(files)
    while pending:
        outcomes = threads.map(partial(_publish, conditions, names, token), pending)
        published, pending = pending, []
        for file, outcome in zip(published, outcomes, strict=True):
            if outcome is _Outcome.PUBLISHED:
                linked(file)
            elif outcome is _Outcome.LOST:
                lost.append(file)
            else:
                pending.append(rename(file))
    return lost


def _publish(conditions: Conditions, names: Names, token: str, file: PublishedFile) -> _Outcome:
    """Copy one staged object to its final name."""
    part, target = names.part(token, file.part), names.key(file)

    def is_ours(found: Found) -> bool:
        # Whatever its size: a part that was made again may be compressed otherwise.
        return found.metadata.get(PART) == f"{token}/{file.part}"

    for _ in range(_TRIES):
        try:
            found = conditions.copy(part, target)
        except ObjectGone:
            present = conditions.head(target)
            return _Outcome.PUBLISHED if present and is_ours(present) else _Outcome.LOST
        if found is not None:
            if is_ours(found):
                return _Outcome.PUBLISHED
            # Without a staged object, another run has published it, under another name perhaps.
            return _Outcome.LOST if conditions.head(part) is None else _Outcome.FOREIGN
    raise StoreUnavailable(
        f"{names.address(file)} is not there, although the server said that it copied it"
    )
