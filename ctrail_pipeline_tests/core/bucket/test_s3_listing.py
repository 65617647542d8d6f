"""A doubtful list is asked for once more, keys come in order and once, and every listing ends."""

import logging
from collections.abc import Callable, Iterable, Sequence

import pytest

from ctrail_pipeline.core.bucket import s3_listing
from ctrail_pipeline.core.bucket.interface import Folder, Listed, Page
from ctrail_pipeline.core.bucket.list_answer import ListAnswer, ListRequest
from ctrail_pipeline.core.bucket.s3_listing import S3Listing
from ctrail_pipeline.core.exceptions import StoreUnavailable
from ctrail_pipeline.core.keys.minutes import Minute

Answering = Callable[[ListRequest], ListAnswer]


def listed(*keys: str) -> list[Listed]:
    return [Listed(key, 1, b"e" * 16, Minute(1), archived=False) for key in keys]


def last(*keys: str) -> ListAnswer:
    return ListAnswer(listed(*keys), [], is_last=True, token="")


def more(token: str, *keys: str) -> ListAnswer:
    return ListAnswer(listed(*keys), [], is_last=False, token=token)


EMPTY = last()


class Client:
    """Answers each request with the next answer, and keeps the requests."""

    def __init__(self, *answers: ListAnswer) -> None:
        self.answers = list(answers)
        self.requests: list[ListRequest] = []

    def __call__(self, request: ListRequest) -> ListAnswer:
        self.requests.append(request)
        return self.answers.pop(0)


def listing(curl: Answering, boto3: Answering | None = None) -> S3Listing:
    return S3Listing("s3://logs", curl, boto3 or Client())


def test_a_page_in_order_is_taken_as_it_is() -> None:
    curl = Client(more("t", "d/a", "d/b"), last("d/c/", "d/c/d"))
    bucket = listing(curl)
    assert bucket.page("d/", "", expected=True) == Page(listed("d/a", "d/b"), last=False)
    assert bucket.page("d/", "d/b", expected=True) == Page(listed("d/c/", "d/c/d"), last=True)
    assert curl.requests == [ListRequest("d/"), ListRequest("d/", "d/b")]


def test_an_empty_page_with_a_token_is_not_the_end() -> None:
    curl = Client(more("t"), more("u"), more("v", "d/a"))
    assert listing(curl).page("d/", "", expected=False) == Page(listed("d/a"), last=False)
    assert [request.token for request in curl.requests] == ["", "t", "u"]
    assert listing(Client(more("t"), EMPTY)).page("d/", "", expected=False) == Page([], last=True)


@pytest.mark.parametrize(
    "keys",
    [["d/b", "d/a"], ["d/a", "d/a"], ["d/a", "e"], ["c", "d/a"], ["d/0"], ["d/1"], [""]],
    ids=["not sorted", "repeated", "outside", "outside before", "before", "again", "no key"],
)
def test_a_page_that_is_not_in_order_is_listed_by_boto3(keys: Sequence[str]) -> None:
    boto3 = Client(more("t", "d/a", "d/b"))
    bucket = listing(Client(last(*keys)), boto3)
    assert bucket.page("d/", "d/1", expected=False) == Page(listed("d/a", "d/b"), last=False)
    assert boto3.requests == [ListRequest("d/", "d/1")]


def test_without_any_order_all_pages_are_read_by_their_tokens_and_sorted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = [["d/f", "d/b"], ["d/a", "d/f", "d/0"], [], ["x", "d/d", "d/c", "d/e"]]

    def disorderly(request: ListRequest) -> ListAnswer:
        number = int(request.token or 0)
        is_last = number == len(pages) - 1
        return ListAnswer(listed(*pages[number]), [], is_last, str(number + 1))

    bucket = listing(disorderly, disorderly)
    expected = listed("d/0", "d/a", "d/b", "d/c", "d/d", "d/e", "d/f")
    assert bucket.page("d/", "", expected=False) == Page(expected, last=True)
    assert bucket.page("d/", "d/c", expected=False) == Page(expected[4:], last=True)
    assert caplog.text.count("s3://logs/d/ is not listed in the order of keys") == 1
    monkeypatch.setattr(s3_listing, "SORTED_AT_ONCE", 4)
    assert every_object(bucket) == expected


def every_object(bucket: S3Listing) -> list[Listed]:
    """All pages of the folder `d/`."""
    found: list[Listed] = []
    page = Page([], last=False)
    while not page.last:
        page = bucket.page("d/", found[-1].key if found else "", expected=bool(found))
        found += page.objects
    return found


@pytest.mark.parametrize("page_size", [1, 2, 3, 4, 5, 6])
def test_a_server_that_lists_a_folder_before_names_that_sort_before_it_hides_nothing(
    page_size: int,
) -> None:
    """SeaweedFS 4.48 lists so, and takes StartAfter for a place in its own order."""
    keys = ["d/%", "d/a/b", "d/a/c", "d/a  b", "d/a-b", "d/z"]

    def ask(request: ListRequest) -> ListAnswer:
        place = request.token or request.after
        start = keys.index(place) + 1 if place else 0
        page = keys[start : start + page_size]
        return last(*page) if start + page_size >= len(keys) else more(page[-1], *page)

    assert {item.key for item in every_object(listing(ask, ask))} == set(keys)


def test_a_folder_has_each_name_once_and_nothing_of_others() -> None:
    curl = Client(
        ListAnswer(
            listed("d/", "d/x.json", "x"), ["d/b/", "d/b/", "x/", "d/no", "d//"], False, "t"
        ),
        ListAnswer(listed("d/x.json", "d/w.json"), ["d/a/", "d/b/"], True, ""),
    )
    assert listing(curl).folder("d/", expected=True) == Folder(
        ["b", "", "a"], listed("d/", "d/x.json", "d/w.json")
    )
    assert curl.requests == [
        ListRequest("d/", by_folder=True),
        ListRequest("d/", token="t", by_folder=True),
    ]


# --- empty, although something was shown ----------------------------------------------------------


def test_a_folder_that_should_hold_something_is_asked_for_once_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    boto3 = Client(last("d/a"), ListAnswer([], ["d/a/"], True, ""))
    bucket = listing(Client(EMPTY, EMPTY), boto3)
    assert bucket.page("d/", "", expected=True) == Page(listed("d/a"), last=True)
    assert bucket.folder("d/", expected=True) == Folder(["a"], [])
    assert boto3.requests == [ListRequest("d/"), ListRequest("d/", by_folder=True)]
    assert caplog.text.count("s3://logs/d/ was listed as empty, which was wrong") == 2


def test_a_folder_that_is_empty_again_is_empty_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    bucket = listing(Client(EMPTY, EMPTY), Client(EMPTY, EMPTY))
    assert bucket.page("d/", "d/5", expected=True) == Page([], last=True)
    assert bucket.folder("d/", expected=True) == Folder([], [])
    assert caplog.text.count("s3://logs/d/ is empty, although its listing had shown something") == 2


def test_a_folder_of_which_nothing_is_known_may_be_empty() -> None:
    bucket = listing(Client(EMPTY, EMPTY))
    assert bucket.page("d/", "", expected=False) == Page([], last=True)
    assert bucket.folder("d/", expected=False) == Folder([], [])


@pytest.mark.parametrize(
    ("answers", "page", "requests"),
    [
        ([last("d/1", "d/3", "d/4")], Page(listed("d/3", "d/4"), True), [ListRequest("d/")]),
        ([last("d/1", "d/2")], Page([], True), [ListRequest("d/")]),
        ([more("t", "d/1", "d/3")], Page(listed("d/3"), False), [ListRequest("d/")]),
        (
            [more("t", "d/1"), more("t", "d/3")],
            Page(listed("d/3"), False),
            [ListRequest("d/"), ListRequest("d/", "d/2")],
        ),
        (
            [more("t", "d/1"), EMPTY],
            Page([], True),
            [ListRequest("d/"), ListRequest("d/", "d/2")],
        ),
    ],
)
def test_the_second_request_is_without_a_key_to_begin_behind(
    answers: Iterable[ListAnswer], page: Page, requests: list[ListRequest]
) -> None:
    boto3 = Client(*answers)
    assert listing(Client(EMPTY), boto3).page("d/", "d/2", expected=True) == page
    assert boto3.requests == requests


# --- listings that do not end ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "list_it",
    [
        lambda bucket: bucket.folder("d/", expected=False),
        lambda bucket: bucket.page("d/", "", expected=False),
    ],
    ids=["a folder", "a page"],
)
def test_a_token_that_repeats_is_an_error(list_it: Callable[[S3Listing], object]) -> None:
    def ask(request: ListRequest) -> ListAnswer:
        return more({"": "a", "a": "b", "b": "a"}[request.token], "d/b", "d/a")

    with pytest.raises(StoreUnavailable, match="s3://logs/d/: the listing does not end"):
        list_it(listing(ask, ask))


@pytest.mark.parametrize("keys", [[], ["d/b", "d/a"]])
def test_the_same_answer_with_ever_other_tokens_is_an_error(
    keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_listing, "VAIN_ANSWERS", 20)
    numbers = iter(range(100))

    def ask(_request: ListRequest) -> ListAnswer:
        return more(str(next(numbers)), *keys)

    with pytest.raises(StoreUnavailable, match="the listing does not end"):
        listing(ask, ask).page("d/", "", expected=False)
