"""Objects and folders that are seen and not brought in: which of them count, and where. Pure.

Below a region folder an object is left aside if its name is no log file's. It is tallied by folder:
`2026/01/15/` for a day, `2026/01/` or `2026/` for what lies in no day's folder, "" for the rest.
Outside of the region folders, log files and folders are left aside that nobody expects there.
Not here: how they are found (`core.listing`), or kept (`core.ledger.left_aside`).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from .minutes import day_number
from .source_prefix import DIGEST_KIND, KINDS, is_account, is_organization

_DATED_FOLDER: Final = re.compile(r"([0-9]{4})/(?:([0-9]{2})/(?:([0-9]{2})/)?)?")
_DAY_FOLDER_LENGTH: Final = len("2026/01/15/")
_NO_DAYS: Final = (0, 0)
_MARKER_ENDINGS: Final = ("/", "_$folder$")
_LAKE: Final = "CloudTrail-Lake"


class LeftAside(NamedTuple):
    """How much is left aside, and the first of it."""

    objects: int
    """Objects, or folders."""
    example: str
    """A key; a folder's ends in a slash."""

    def with_one_more(self) -> "LeftAside":
        """The same with one more."""
        return self._replace(objects=self.objects + 1)


Tally = dict[str, LeftAside]
"""Objects that are left aside, by the folder below the region folder."""
Outside = Mapping[str, Mapping[str, LeftAside]]
"""What is left aside outside of the region folders: by the folder that was listed, then by why."""


def add_to(tally: Tally, name: str, example: str) -> None:
    """Count an object or a folder under a name."""
    known = tally.get(name)
    tally[name] = LeftAside(1, example) if known is None else known.with_one_more()


def summed(tallies: Iterable[LeftAside]) -> LeftAside:
    """The sum of tallies, with the first example."""
    of_all = list(tallies)
    return LeftAside(
        sum(tally.objects for tally in of_all), next((tally.example for tally in of_all), "")
    )


def is_marker(key: str, size: int) -> bool:
    """Whether an object is an empty marker of a folder, which tools and CloudTrail leave behind."""
    return size == 0 and key.endswith(_MARKER_ENDINGS)


def folder_of(relative: str) -> str:
    """Return the folder under which a key below a region folder is tallied."""
    for width in (_DAY_FOLDER_LENGTH, len("2026/01/"), len("2026/")):
        if _days_of(relative[:width]) != _NO_DAYS:
            return relative[:width]
    return ""


def _days_of(folder: str) -> tuple[int, int]:
    """Return the first day (since 1970) of a dated folder, and the day behind its last."""
    match = _DATED_FOLDER.fullmatch(folder)
    if match is None:
        return _NO_DAYS
    year, month, day = (int(text) for text in match.groups(default="1"))
    first = day_number(year, month, day) or 0
    if first <= 0:
        return _NO_DAYS
    if match[3] is not None:
        return first, first + 1
    months = 1 if match[2] is not None else 12
    year, month = year + (month - 1 + months) // 12, (month - 1 + months) % 12 + 1
    return first, day_number(year, month, 1) or first + 31 * months


@dataclass(frozen=True, slots=True)
class ListedFolders:
    """Folders of a source prefix that were listed completely: their older tallies are replaced."""

    first_day: int = 0
    end_day: int = 0
    """The first day that was listed, and the one behind the last."""
    depth_from: int = 3
    """1: also what lies beside the day folders of whole years and months; 2: of whole months; 3:
    only day folders."""
    folder: str | None = None
    """A single folder beside them."""

    def holds(self, folder: str) -> bool:
        """Whether a folder is among them."""
        if folder == self.folder:
            return True
        first, end = _days_of(folder)
        is_dated = first > 0 and folder.count("/") >= self.depth_from
        return is_dated and self.first_day <= first and end <= self.end_day


def replaced(old: Tally, listed: ListedFolders, new: Tally) -> Tally:
    """Return the tallies of a source prefix once some of its folders were listed again."""
    kept = {folder: tally for folder, tally in old.items() if not listed.holds(folder)}
    return kept | {folder: tally for folder, tally in new.items() if listed.holds(folder)}


def why_left_aside(name: str) -> str | None:
    """Return why a folder in an account's folder is left aside.

    None for the folders of kinds and of digests, and for those of other services.
    """
    if name in KINDS or name == DIGEST_KIND:
        return None
    if name == _LAKE:
        return "results of CloudTrail Lake queries"
    if name.lower().startswith("cloudtrail"):
        return "folder of an unknown kind"
    if is_account(name) or is_organization(name) or name == "AWSLogs":
        return "folder between AWSLogs/ and the account"
    if name.isdecimal():
        return "folder of a date, where those of kinds are"
    return None


def outside_listed_again(old: Outside, new: Outside, unlisted: Iterable[str]) -> Outside:
    """Return what is left aside outside once some folders were listed again.

    Of the folders in `new` the newer tallies count. What lies in or below an `unlisted` folder is
    kept, and everything else is gone.
    """
    unlisted = set(unlisted)
    kept = {
        folder: tallies
        for folder, tallies in old.items()
        if folder not in new and any(parent in unlisted for parent in _parents(folder))
    }
    return kept | {folder: tallies for folder, tallies in new.items() if tallies}


def _parents(folder: str) -> Iterator[str]:
    """Yield a folder and all folders that it lies in."""
    names = folder.split("/")[:-1]
    for depth in range(len(names), 0, -1):
        yield "/".join(names[:depth]) + "/"
