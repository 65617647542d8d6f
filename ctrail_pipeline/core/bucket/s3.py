"""A bucket in S3: which client (libcurl, boto3) asks for what.

How a bucket is listed is in `s3_listing`. What is asked again after a failure is decided in
`s3_retry`, and what an error means in `s3_errors`.
"""

from collections.abc import Callable, Sequence
from typing import Final, cast

from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.settings import BucketAccess, Settings

from .boto3_client import NO_ETAG, Boto3Client
from .boundary import boundary
from .credential_renewal import RenewableCredentials
from .curl import transfers_of_process
from .curl_request import (
    TOO_LONG,
    Answer,
    CurlError,
    Keys,
    NoAnswer,
    OtherAnswer,
    Wanted,
    can_ask_for,
)
from .current_endpoint import CurrentEndpoint
from .endpoint import Endpoint, target_at
from .etag import pack_etag, unpack_etag
from .interface import Described, Fetched, Folder, Page
from .list_answer import ListAnswer, ListRequest, NotAList, read_list
from .misdirected import misdirected
from .s3_errors import client_errors, translate
from .s3_listing import S3Listing
from .s3_retry import Retries

_OK: Final = 200
_PARTIAL: Final = 206
_LISTS_IN_FLIGHT: Final = 128
"""LIST requests in flight of a process. They do not wait for GETs, which are many."""
_MOST_LIST_BYTES: Final = 16 * 1024 * 1024
"""Upper limit of a LIST answer: 1,000 keys of 1,024 bytes, each encoded, take 4 MB."""


class S3Bucket:
    """A bucket in S3: listed and read through libcurl, the cheapest client (`curl`).

    boto3 reads the few keys that libcurl does not ask for as they are. It gives a second answer
    where libcurl's is doubtful (`s3_listing`).
    """

    def __init__(
        self, access: BucketAccess, settings: Settings, known: Endpoint | None = None
    ) -> None:
        """`known`: where the bucket is, if another process has found it already."""
        self.location = f"s3://{access.bucket}"
        self._access = access
        self._settings = settings
        self.credentials = RenewableCredentials(access, self.location)
        session = self.credentials.current.session
        self.current_endpoint = CurrentEndpoint(access, session, known)
        self.retries = Retries(access, settings, self.credentials, self.current_endpoint)
        self._transfers = transfers_of_process(settings.downloads_of(1))
        self._list_transfers = transfers_of_process(_LISTS_IN_FLIGHT)
        self._boto3 = Boto3Client(access, settings, self.credentials, self.current_endpoint)
        self._listing = S3Listing(self.location, self._list_by_curl, self._list_by_boto3)

    def list_folder(self, folder: str, *, expected: bool = False) -> Folder:
        """List the sub-folders and objects in `folder` (a delimiter listing, all pages)."""
        return self._listing.folder(folder, expected=expected)

    def list_page(self, folder: str, after: str, *, expected: bool = False) -> Page:
        """List the objects below `folder` in key order behind the key `after` ("": all).

        Each page is a separate request (StartAfter), so a failed page is simply asked for again.
        """
        return self._listing.page(folder, after, expected=expected)

    def _list_by_curl(self, request: ListRequest) -> ListAnswer:
        def ask() -> ListAnswer:
            wanted = Wanted("", query=request.query())
            [answer] = self._ask([wanted], request.folder)
            if isinstance(answer, NoAnswer) and answer.number == TOO_LONG:
                raise NotAList("it is far too long") from answer
            if isinstance(answer, Exception):
                raise answer
            return read_list(answer.body, request)

        return self._ask_for_list(ask, request)

    def _list_by_boto3(self, request: ListRequest) -> ListAnswer:
        return self._ask_for_list(lambda: self._boto3.list(request), request)

    def _ask_for_list(self, ask: Callable[[], ListAnswer], request: ListRequest) -> ListAnswer:
        where = f"{self.location}/{request.folder}"
        return self.retries.ask(ask, where, self.endpoint.list_permission)

    def get(self, key: str, etag: bytes | None) -> Fetched:
        """Read one object whole."""
        [result] = self.get_all([(key, etag)])
        if isinstance(result, StoreError):
            raise result
        return result

    def get_all(self, wanted: Sequence[tuple[str, bytes | None]]) -> "list[Fetched | StoreError]":
        """Read objects whole, side by side; return an object or an error for each."""
        locations = [f"{self.location}/{key}" for key, _ in wanted]
        retries = -1

        def request(pending: Sequence[int]) -> "list[Fetched | Exception]":
            nonlocal retries
            retries += 1
            responses = self._ask_for([wanted[number] for number in pending])
            return [
                response if isinstance(response, Exception) else response._replace(retries=retries)
                for response in responses
            ]

        return self.retries.ask_all(request, locations, self.endpoint.get_permission)

    def _ask_for(self, wanted: Sequence[tuple[str, bytes | None]]) -> "list[Fetched | Exception]":
        """Make one request for each object."""
        responses: list[Fetched | Exception | None] = [None] * len(wanted)
        by_curl: dict[int, Wanted] = {}
        for number, (key, etag) in enumerate(wanted):
            request = Wanted(key, None if etag is None else unpack_etag(etag))
            if can_ask_for(request):
                by_curl[number] = request
            else:
                try:
                    responses[number] = self._boto3.get(key, etag)
                except client_errors() as error:
                    responses[number] = error
        answers = self._ask(list(by_curl.values()))
        for number, answer in zip(by_curl, answers, strict=True):
            responses[number] = _fetched(answer) if isinstance(answer, Answer) else answer
        return cast("list[Fetched | Exception]", responses)

    def _ask(
        self, wanted: Sequence[Wanted], folder: str | None = None
    ) -> "list[Answer | CurlError | StoreError]":
        """Make requests side by side, and once more where S3 names another endpoint.

        `folder`: what is listed; None: objects are asked for.
        """
        transfers = self._transfers if folder is None else self._list_transfers
        answers: list[Answer | CurlError | StoreError] = [CurlError()] * len(wanted)
        pending = list(range(len(wanted)))
        while pending:
            endpoint = self.endpoint
            target = target_at(endpoint, self._access, self._settings)
            if folder is not None:
                target = target._replace(max_answer_bytes=_MOST_LIST_BYTES)
            found = transfers.get(target, self._keys(), [wanted[number] for number in pending])
            asked, pending = pending, []
            for number, answer in zip(asked, found, strict=True):
                elsewhere = answer.elsewhere if isinstance(answer, OtherAnswer) else None
                if self.current_endpoint.follow(endpoint, elsewhere):
                    pending.append(number)
                location = f"{self.location}/{folder or wanted[number].key}"
                failure = misdirected(answer, endpoint, location, self._access)
                if failure is not None and isinstance(answer, CurlError):
                    failure.__cause__ = answer
                if failure is None and isinstance(answer, Answer):
                    self.current_endpoint.has_answered()
                answers[number] = failure or answer
        return answers

    def _keys(self) -> Keys:
        """The credentials that are good now."""
        return self.credentials.current()

    def probe(self, key: str) -> None:
        """Read one byte of an object: unlike a HEAD, this shows also what KMS denies.

        One try is enough: only a denial is of interest, and a denial is no passing fault.
        """
        with boundary(self._access):
            try:
                self._probe(key)
            except client_errors() as error:
                location = f"{self.location}/{key}"
                failure = translate(error, location, self.endpoint.get_permission, self._access)
                raise self.current_endpoint.noted(failure) from error

    def _probe(self, key: str) -> None:
        wanted = Wanted(key, is_probe=True)
        if not can_ask_for(wanted):
            self._boto3.get(key, None)
            return
        [answer] = self._ask([wanted])
        if isinstance(answer, Exception) and not _is_part(answer):
            raise answer

    def get_described(self, key: str) -> Described:
        """Read one object whole, with its user metadata. boto3 will do, since digests are few."""
        return self.retries.ask(
            lambda: self._boto3.get_described(key),
            f"{self.location}/{key}",
            self.endpoint.get_permission,
        )

    @property
    def endpoint(self) -> Endpoint:
        """Where the bucket is, as far as is known now."""
        return self.current_endpoint.current


def _fetched(answer: Answer) -> Fetched | OtherAnswer:
    """An object. An answer without an etag is no object of S3's, whatever its status says."""
    if not answer.etag:
        return OtherAnswer(_OK, answer.body, NO_ETAG)
    return Fetched(answer.body, pack_etag(answer.etag), 0)


def _is_part(answer: Exception) -> bool:
    return isinstance(answer, OtherAnswer) and answer.status == _PARTIAL
