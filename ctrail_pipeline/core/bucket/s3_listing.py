"""Listing a bucket in S3: libcurl asks, and where its answer is doubtful, boto3 asks once more.

Two answers are doubted though each is a whole list: one that is empty although the answer before
has shown that there is something, and one whose keys do not come in order. Otherwise log files
could be missing, and nobody would say so. Not here: what an answer must hold to be a list at all
(`list_answer`), and requests that are made again because they failed (`s3_retry`).
"""

import logging
from collections.abc import Callable, Iterator
from heapq import nsmallest
from itertools import pairwise
from operator import attrgetter
from typing import Final

from ctrail_pipeline.core.exceptions import StoreUnavailable
from ctrail_pipeline.core.untrusted_text import printable

from .interface import Folder, Listed, Page
from .list_answer import ListAnswer, ListRequest

log = logging.getLogger(__name__)

SORTED_AT_ONCE: Final = 100_000
"""Objects of a page that is put in order here (40 MB). For more, the folder is listed again."""
VAIN_ANSWERS: Final = 1_000
"""Equal answers one after the other, each with another token. Empty ones are equal, too."""

Ask = Callable[[ListRequest], ListAnswer]


class S3Listing:
    """Lists a bucket. `by_curl` and `by_boto3` make one request, and again if it fails."""

    def __init__(self, location: str, by_curl: Ask, by_boto3: Ask) -> None:
        """`location`: how messages name the bucket."""
        self._location = location
        self._by_curl = by_curl
        self._by_boto3 = by_boto3
        self._unordered: set[str] = set()
        """Folders whose keys do not come in order, as has been seen."""

    def folder(self, folder: str, *, expected: bool) -> Folder:
        """List the sub-folders and objects in `folder`. See `Bucket.list_folder`."""
        found = self._folder(folder, self._by_curl)
        if expected and not found.folders and not found.objects:
            found = self._folder(folder, self._by_boto3)
            self._note_doubt(folder, is_empty=not found.folders and not found.objects)
        return found

    def page(self, folder: str, after: str, *, expected: bool) -> Page:
        """List the objects below `folder` behind the key `after`. See `Bucket.list_page`."""
        if folder not in self._unordered:
            page = self._page(folder, after, self._by_curl)
            if not _is_in_order(page.objects, folder, after):
                page = self._page(folder, after, self._by_boto3)
            elif expected and not page.objects:
                page = self._doubted(folder, after)
            if _is_in_order(page.objects, folder, after):
                return page
            log.warning(
                "%s/%s is not listed in the order of keys", self._location, printable(folder)
            )
            self._unordered.add(folder)
            after = ""  # for such a server, keys before `after` may come behind that key
        return self._sorted(folder, after)

    def _folder(self, folder: str, ask: Ask) -> Folder:
        """All pages of a folder. Their order does not matter, nor what comes twice."""
        names: dict[str, None] = {}
        objects: dict[str, Listed] = {}
        for answer in self._answers(ListRequest(folder, by_folder=True), ask):
            for prefix in answer.folders:
                name, slash = prefix.removeprefix(folder)[:-1], prefix[len(folder) :][-1:]
                if slash == "/" and prefix.startswith(folder):
                    names[name] = None
            objects.update(
                (listed.key, listed) for listed in answer.objects if listed.key.startswith(folder)
            )
        return Folder(list(names), list(objects.values()))

    def _page(self, folder: str, after: str, ask: Ask) -> Page:
        """The first answer with objects. S3 may say "nothing yet, ask on"."""
        for answer in self._answers(ListRequest(folder, after), ask):
            if answer.objects:
                return Page(answer.objects, answer.is_last)
        return Page([], last=True)

    def _sorted(self, folder: str, after: str) -> Page:
        """A page from a server that does not list in the order of keys.

        Some servers list a folder `a` before the object `a-b`. So all pages are read, by their
        tokens, and the first keys of them all make the page.
        """
        first = nsmallest(
            SORTED_AT_ONCE,
            (
                listed
                for answer in self._answers(ListRequest(folder), self._by_boto3)
                for listed in answer.objects
                if listed.key.startswith(folder) and listed.key > after
            ),
            key=attrgetter("key"),
        )
        objects = list({listed.key: listed for listed in first}.values())
        return Page(objects, last=len(first) < SORTED_AT_ONCE)

    def _doubted(self, folder: str, after: str) -> Page:
        """Ask once more for a folder that is empty although there should be something.

        boto3 asks without `after`, so that only a folder without any object is empty.
        """
        whole = self._page(folder, "", self._by_boto3)
        page = Page([item for item in whole.objects if item.key > after], whole.last)
        if not page.objects and not page.last:
            page = self._page(folder, after, self._by_boto3)
        if page.objects or not whole.objects:
            self._note_doubt(folder, is_empty=not page.objects)
        return page

    def _note_doubt(self, folder: str, *, is_empty: bool) -> None:
        where = f"{self._location}/{printable(folder)}"
        if is_empty:
            log.info("%s is empty, although its listing had shown something", where)
        else:
            log.warning("%s was listed as empty, which was wrong", where)

    def _answers(self, request: ListRequest, ask: Ask) -> Iterator[ListAnswer]:
        """The answers to a request, one behind the other by their tokens.

        Raises StoreUnavailable if they do not end.
        """
        seen: set[str] = set()
        before, vain = None, 0
        while True:
            answer = ask(request)
            yield answer
            if answer.is_last:
                return
            items = answer.objects, answer.folders
            before, vain = items, vain + 1 if items == before else 0
            if answer.token in seen or vain == VAIN_ANSWERS:
                raise StoreUnavailable(
                    f"{self._location}/{printable(request.folder)}: the listing does not end: its"
                    " server gives the same answer again and again"
                )
            seen.add(answer.token)
            request = request._replace(token=answer.token)


def _is_in_order(objects: list[Listed], folder: str, after: str) -> bool:
    """Whether each key is behind the one before it, and all are below the folder."""
    keys = [after, *(listed.key for listed in objects)]
    return all(first < second for first, second in pairwise(keys)) and (
        not objects or (keys[1].startswith(folder) and keys[-1].startswith(folder))
    )
