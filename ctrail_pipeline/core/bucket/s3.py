"""A bucket in S3: which client (obstore, libcurl, boto3) asks for what.

What is asked again after a failure is decided in `s3_retry`, and what an error means in
`s3_errors`.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from ctrail_pipeline.core.exceptions import StoreError, StoreUnavailable
from ctrail_pipeline.core.keys.minutes import minute_of
from ctrail_pipeline.core.settings import Settings, Trail

from .credential_renewal import RenewableCredentials
from .credentials import Credentials
from .curl import transfers_of_process
from .curl_request import Answer, Keys, Wanted, can_ask_for
from .endpoint import endpoint_of, open_store, target_at
from .etag import pack_etag, unpack_etag
from .interface import PAGE_SIZE, Described, Fetched, Folder, Listed, Page
from .s3_errors import CredentialsFailed, client_errors, translate
from .s3_retry import Retries

if TYPE_CHECKING:
    from obstore.store import S3Store

_ARCHIVED_CLASSES: Final = frozenset({"GLACIER", "DEEP_ARCHIVE"})


class S3Bucket:
    """A bucket in S3: listed through obstore, read through libcurl (`curl`), the cheapest clients.

    obstore refuses a whole listing for one key that is no clean path (`a//b`, `..`, control
    characters). So a person who may write to the bucket could hide everything else in a folder.
    Such listings go through boto3, and so do the few keys that libcurl does not ask for as they
    are.
    """

    def __init__(self, trail: Trail, settings: Settings) -> None:
        self.location = f"s3://{trail.bucket}"
        self._trail = trail
        self._settings = settings
        self._credentials = RenewableCredentials(trail, self.location)
        self._retries = Retries(trail, settings, self._credentials)
        endpoint = endpoint_of(trail, self._credentials.current)
        self._target = target_at(endpoint, trail, settings)
        self._transfers = transfers_of_process(settings.downloads_of(1))
        self._open_store = partial(open_store, endpoint, trail, settings)
        self._obstore_opened: tuple[Credentials, S3Store] | None = None
        self._boto3_opened: tuple[Credentials, Any] | None = None

    def list_folder(self, folder: str) -> Folder:
        """List the sub-folders and objects in `folder` (a delimiter listing, all pages)."""
        import obstore
        from obstore.exceptions import InvalidPathError

        def request() -> Folder:
            try:
                found = obstore.list_with_delimiter(self._obstore(), folder)
            except (InvalidPathError, ValueError):
                return self._list_folder_by_boto3(folder)
            names = [path.rstrip("/").rpartition("/")[2] for path in found["common_prefixes"]]
            return Folder(names, [_listed_object(meta) for meta in found["objects"]])

        return self._retries.ask(request, f"{self.location}/{folder}", self._list_permission)

    def list_page(self, folder: str, after: str) -> Page:
        """List the objects below `folder` in key order behind the key `after` ("": all).

        Each page is a separate request (StartAfter), so a failed page is simply asked for again.
        """
        import obstore
        from obstore.exceptions import InvalidPathError

        def request() -> Page:
            try:
                stream = obstore.list(
                    self._obstore(), folder, offset=after or None, chunk_size=PAGE_SIZE
                )
                objects = [_listed_object(meta) for meta in next(iter(stream), ())]
                page = Page(objects, len(objects) < PAGE_SIZE)
            except (InvalidPathError, ValueError):
                page = self._list_page_by_boto3(folder, after)
            if not page.last and (not page.objects or page.objects[-1].key <= after):
                # A server without StartAfter answers with the same page for ever.
                raise StoreUnavailable(
                    f"{self.location}/{folder}: the listing does not go on behind {after!r}"
                )
            return page

        return self._retries.ask(request, f"{self.location}/{folder}", self._list_permission)

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

        return self._retries.ask_all(request, locations, self._get_permission)

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
                    responses[number] = self._get_by_boto3(key, etag)
                except client_errors() as error:
                    responses[number] = error
        answers = self._transfers.get(self._target, self._keys(), list(by_curl.values()))
        for number, answer in zip(by_curl, answers, strict=True):
            if isinstance(answer, Answer):
                responses[number] = Fetched(answer.body, pack_etag(answer.etag), 0)
            else:
                responses[number] = answer
        return cast("list[Fetched | Exception]", responses)

    def _keys(self) -> Keys:
        """The credentials that are good now."""
        try:
            keys = self._credentials.current()
        except client_errors() as error:
            raise CredentialsFailed(error) from error
        return Keys(keys["access_key_id"], keys["secret_access_key"], keys["token"])

    def probe(self, key: str) -> None:
        """Read one byte of an object: unlike a HEAD, this shows also what KMS denies.

        One try is enough: only a denial is of interest, and a denial is no passing fault.
        """
        import obstore
        from obstore.exceptions import InvalidPathError

        try:
            try:
                obstore.get_range(self._obstore(), key, start=0, end=1)
            except (InvalidPathError, ValueError):
                self._boto3().get_object(
                    Bucket=self._trail.bucket, Key=key, Range="bytes=0-0", **self._payer
                )
        except client_errors() as error:
            location = f"{self.location}/{key}"
            raise translate(error, location, self._get_permission, self._trail) from error

    def get_described(self, key: str) -> Described:
        """Read one object whole, with its user metadata. boto3 will do, since digests are few."""

        def request() -> Described:
            reply = self._boto3().get_object(Bucket=self._trail.bucket, Key=key, **self._payer)
            metadata = {str(name).lower(): str(value) for name, value in reply["Metadata"].items()}
            return Described(reply["Body"].read(), metadata)

        return self._retries.ask(request, f"{self.location}/{key}", self._get_permission)

    def _obstore(self) -> "S3Store":
        """Open obstore's store at its first use, and again for new credentials.

        Worker processes do not list, and never open it.
        """
        opened, credentials = self._obstore_opened, self._credentials.current
        if opened is None or opened[0] is not credentials:
            opened = self._obstore_opened = (credentials, self._open_store(credentials))
        return opened[1]

    @property
    def _list_permission(self) -> str:
        return f"s3:ListBucket on arn:aws:s3:::{self._trail.bucket}"

    @property
    def _get_permission(self) -> str:
        return f"s3:GetObject on arn:aws:s3:::{self._trail.bucket}/*"

    @property
    def _payer(self) -> dict[str, str]:
        return {"RequestPayer": "requester"} if self._trail.requester_pays else {}

    def _list_folder_by_boto3(self, folder: str) -> Folder:
        found = Folder([], [])
        pages = self._boto3().get_paginator("list_objects_v2")
        for reply in pages.paginate(
            Bucket=self._trail.bucket, Prefix=folder, Delimiter="/", **self._payer
        ):
            for common in reply.get("CommonPrefixes", ()):
                found.folders.append(common["Prefix"][len(folder) : -1])
            found.objects.extend(_listed_by_boto3(item) for item in reply.get("Contents", ()))
        return found

    def _list_page_by_boto3(self, folder: str, after: str) -> Page:
        reply = self._boto3().list_objects_v2(
            Bucket=self._trail.bucket,
            Prefix=folder,
            StartAfter=after,
            MaxKeys=PAGE_SIZE,
            **self._payer,
        )
        objects = [_listed_by_boto3(item) for item in reply.get("Contents", ())]
        return Page(objects, not reply["IsTruncated"])

    def _get_by_boto3(self, key: str, etag: bytes | None) -> Fetched:
        condition = {} if etag is None else {"IfMatch": unpack_etag(etag)}
        reply = self._boto3().get_object(
            Bucket=self._trail.bucket, Key=key, **condition, **self._payer
        )
        return Fetched(reply["Body"].read(), pack_etag(reply["ETag"]), 0)

    def _boto3(self) -> Any:
        """Open boto3's client at its first use, and again for new credentials."""
        opened, credentials = self._boto3_opened, self._credentials.current
        if opened is None or opened[0] is not credentials:
            opened = self._boto3_opened = (credentials, self._open_boto3(credentials))
        return opened[1]

    def _open_boto3(self, credentials: Credentials) -> Any:
        from botocore.config import Config

        return credentials.session.client(
            "s3",
            region_name=self._trail.region,
            endpoint_url=self._trail.endpoint_url,
            config=Config(
                connect_timeout=self._settings.connect_timeout,
                read_timeout=self._settings.client_timeout,
                retries={"total_max_attempts": 1},  # see `s3_retry`
            ),
        )


def _listed_object(meta: Any) -> Listed:
    etag = pack_etag(meta["e_tag"] or "")
    return Listed(meta["path"], meta["size"], etag, minute_of(meta["last_modified"]), False)


def _listed_by_boto3(item: Any) -> Listed:
    return Listed(
        item["Key"],
        item["Size"],
        pack_etag(item["ETag"]),
        minute_of(item["LastModified"]),
        item.get("StorageClass", "") in _ARCHIVED_CLASSES,
    )
