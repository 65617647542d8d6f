"""Reading a bucket: in S3, or a local folder that holds a bucket's tree. One interface, read only.

Errors come as the classes of `exceptions`, naming bucket, key and the permission that is missing.
What to do about an error (try again, record, give up) is the caller's decision; a request that may
pass is retried here first. Nothing here knows what a log file is.
"""

import logging
import os
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from random import uniform
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar, cast
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies

from .credentials import Credentials
from .curl import (
    NOT_TRUSTED,
    Answer,
    CurlError,
    Keys,
    NoAnswer,
    OtherAnswer,
    Target,
    Wanted,
    can_ask_for,
    transfers_of_process,
)
from .exceptions import (
    AccessDenied,
    ConfigurationError,
    CredentialsError,
    ObjectArchived,
    ObjectChanged,
    ObjectGone,
    StoreError,
    StoreUnavailable,
)
from .layout import Minute, minute_of
from .settings import Settings, Trail

if TYPE_CHECKING:
    from obstore.store import S3Store

T = TypeVar("T")

log = logging.getLogger(__name__)

PAGE_SIZE: Final = 1000
"""Keys of one LIST answer: what S3 gives at most."""

ATTEMPTS: Final = 7
"""How often one request is tried; the pauses sum to 12.6 s at most. Half of all requests failing
(S3 throttles a prefix so) leaves 1 in 128 to a later run."""
TIMEOUTS: Final = 3
"""Client timeouts after which no further try begins: a server that hangs costs no more."""
FIRST_PAUSE_SECONDS: Final = 0.2
"""At most, before the second try; each later pause is twice as long, times a random half to one."""

RENEWAL_SECONDS: Final = 30
"""After credentials expired and no others were found: how long until a request is made again."""

_WALKS_KEPT: Final = 1000
_MD5_ETAG: Final = re.compile(r"[0-9a-f]{32}")
_ERROR_CODE: Final = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")
_CURL_CAUSES: Final = {
    5: "no connection to the proxy",
    6: "no connection to the server",
    7: "no connection to the server",
    18: "the connection broke",
    28: "it timed out",
    52: "the connection broke",
    55: "the connection broke",
    56: "the connection broke",
    97: "no connection to the proxy",
}
"""By libcurl's number (https://curl.se/libcurl/c/libcurl-errors.html); others in its own words."""
_KINDS: Final = {
    401: "UnauthenticatedError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    412: "PreconditionError",
}
"""What obstore calls an answer of such a status."""
_OBSTORE_CAUSE: Final = re.compile(r"HttpError \{\s*kind: (\w+)|source: (InvalidListResponse) \{")
_CAUSES: Final = {
    "Connect": "no connection to the server",
    "Timeout": "it timed out",
    "Interrupted": "the connection broke",
    "InvalidListResponse": "the listing was cut short",
}
_NO_CREDENTIALS: Final = re.compile(r"External AWS credential provider: (\w+)")
_CALL_FAILED: Final = re.compile(r"An error occurred \((\w+)\) when calling the (\w+) operation")
_CREDENTIAL_ERRORS: Final = frozenset(
    {
        "CredentialRetrievalError",
        "NoCredentialsError",
        "PartialCredentialsError",
        "SSOTokenLoadError",
        "TokenRetrievalError",
        "UnauthorizedSSOTokenError",
    }
)
_NOT_VALID: Final = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidToken"}
    | {"TokenRefreshRequired"}
)
_SOME_KEY: Final = "the trail's key"
_NOT_TRUSTED: Final = re.compile(
    r"error: InvalidCertificate\(\s*(\w+)|certificate verify failed: ([^(]+?) \("
)
_OTHER_REGION: Final = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
_ARCHIVED_CLASSES: Final = frozenset({"GLACIER", "DEEP_ARCHIVE"})


class Listed(NamedTuple):
    """An object as a listing shows it."""

    key: str
    size: int
    etag: bytes
    """The etag as the ledger keeps it: see `pack_etag`."""
    modified: Minute
    """LastModified, the server's clock."""
    archived: bool
    """Whether LIST said that it must be restored before it can be read (False where unknown)."""


class Folder(NamedTuple):
    """What lies directly in a folder."""

    folders: list[str]
    """Names of its sub-folders, without slashes."""
    objects: list[Listed]


class Page(NamedTuple):
    """One page of a listing."""

    objects: list[Listed]
    last: bool
    """Whether nothing follows."""


class Fetched(NamedTuple):
    """An object's bytes, with the etag they belong to."""

    body: bytes
    etag: bytes
    retries: int


class Described(NamedTuple):
    """An object's bytes and its user metadata."""

    body: bytes
    metadata: dict[str, str]
    """By lower-case name, without `x-amz-meta-`."""


class Bucket(Protocol):
    """A bucket that can be listed and read. Keys are as S3 has them; folders end in a slash."""

    location: str
    """How messages name it: `s3://name` or a `file://` URL."""

    def list_folder(self, folder: str) -> Folder:
        """List what lies directly in `folder` (a delimiter listing, all pages)."""
        ...

    def list_page(self, folder: str, after: str) -> Page:
        """List what lies below `folder` in key order behind the key `after` ("": all)."""
        ...

    def get(self, key: str, etag: bytes | None) -> Fetched:
        """Read one object whole; with `etag`, raise ObjectChanged if it is another version."""
        ...

    def probe(self, key: str) -> None:
        """Read the first byte of an object, as far as may be; raises what `get` would."""
        ...


def open_bucket(trail: Trail, settings: Settings) -> Bucket:
    """The bucket of a trail. No request is made yet, except to learn an unknown region."""
    if trail.bucket.startswith("file://"):
        return LocalBucket(Path(unquote(urlsplit(trail.bucket).path)))
    return S3Bucket(trail, settings)


def get_all(
    bucket: Bucket, wanted: Sequence[tuple[str, bytes | None]]
) -> "list[Fetched | StoreError]":
    """Read objects by key and etag, each as `Bucket.get` does; errors are among what is returned.

    Those of a bucket in S3 are asked for side by side.
    """
    if isinstance(bucket, S3Bucket):
        return bucket.get_all(wanted)
    found: list[Fetched | StoreError] = []
    for key, etag in wanted:
        try:
            found.append(bucket.get(key, etag))
        except StoreError as error:
            found.append(error)
    return found


def get_described(bucket: Bucket, key: str) -> Described:
    """Read one object whole, with its user metadata; files have none."""
    if isinstance(bucket, S3Bucket):
        return bucket.get_described(key)
    return Described(bucket.get(key, None).body, {})


def pack_etag(text: str) -> bytes:
    """An etag in few bytes: 16 for a plain MD5, else a quote and the text."""
    text = text.removeprefix("W/").strip('"')
    if _MD5_ETAG.fullmatch(text):
        return bytes.fromhex(text)
    packed = b'"' + text.encode()
    return packed if len(packed) != 16 else b'"' + packed  # 16 bytes are an MD5


def unpack_etag(packed: bytes) -> str:
    """The etag as HTTP has it, in quotes."""
    is_md5 = len(packed) == 16 or packed[:1] != b'"'
    text = packed.hex() if is_md5 else packed.decode().lstrip('"')
    return f'"{text}"'


class LocalBucket:
    """A folder that holds a bucket's tree, as `aws s3 sync` leaves it.

    The etag is made of size and modification time, so a file that was written again is noticed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._walks: dict[tuple[str, str], Iterator[Listed]] = {}
        self.location = f"file://{quote(str(root))}"

    def list_folder(self, folder: str) -> Folder:
        """List what lies directly in `folder`; a folder that is not there is empty, as in S3."""
        found = Folder([], [])
        for name, entry in self._entries(folder):
            if name.endswith("/"):
                found.folders.append(name[:-1])
            else:
                with suppress(FileNotFoundError):  # as in `_walk`
                    found.objects.append(_listed_file(folder + name, entry.stat()))
        return found

    def list_page(self, folder: str, after: str) -> Page:
        """List what lies below `folder` in key order behind the key `after` ("": all)."""
        walk = self._walks.pop((folder, after), None) or self._walk(folder, after)
        objects = list(islice(walk, PAGE_SIZE))
        last = len(objects) < PAGE_SIZE
        if not last:
            # The next page goes on with this walk; reading a huge folder anew for each page is
            # quadratic. Walks that nobody comes back for are let go.
            if len(self._walks) >= _WALKS_KEPT:
                self._walks.clear()
            self._walks[folder, objects[-1].key] = walk
        return Page(objects, last)

    def get(self, key: str, etag: bytes | None) -> Fetched:
        """Read one file whole."""
        where = f"{self.location}/{key}"
        try:
            with (self.root / key).open("rb") as file:
                found = _file_etag(os.fstat(file.fileno()))
                if etag is not None and etag != found:
                    raise ObjectChanged(f"{where} was written again since it was listed")
                body = file.read()
                if _file_etag(os.fstat(file.fileno())) != found:
                    raise ObjectChanged(f"{where} changed while it was read")
        except FileNotFoundError as error:
            raise ObjectGone(f"{where} is no longer there") from error
        except PermissionError as error:
            raise _not_readable(where) from error
        except OSError as error:
            raise StoreUnavailable(f"{where} cannot be read: {error.strerror}") from error
        return Fetched(body, found, 0)

    def probe(self, key: str) -> None:
        """See whether a file can be opened."""
        try:
            (self.root / key).open("rb").close()
        except PermissionError as error:
            raise _not_readable(f"{self.location}/{key}") from error
        except OSError as error:
            raise StoreUnavailable(f"{self.location}/{key} cannot be read") from error

    def _walk(self, folder: str, after: str) -> Iterator[Listed]:
        for name, entry in self._entries(folder):
            key = folder + name
            if name.endswith("/"):
                if key >= after or after.startswith(key):
                    yield from self._walk(key, after)
            elif key > after:
                try:
                    yield _listed_file(key, entry.stat())
                except FileNotFoundError:
                    continue  # deleted, or a dangling link: as if the listing had come later

    def _entries(self, folder: str) -> list[tuple[str, "os.DirEntry[str]"]]:
        """Entries in the order of their keys: a folder sorts with its slash, as in S3."""
        if not self.root.is_dir():
            raise StoreError(f"{self.location} is not a folder: check the trail's `bucket`")
        found = []
        try:
            with os.scandir(self.root / folder) as entries:
                for entry in entries:
                    try:
                        entry.name.encode()
                    except UnicodeEncodeError:
                        log.warning(
                            "a file name below %s is not UTF-8: not a key, left alone", folder
                        )
                        continue
                    try:
                        found.append((entry.name + "/" if entry.is_dir() else entry.name, entry))
                    except OSError as error:  # a link that leads to itself
                        log.warning("a file below %s is left alone: %s", folder, error.strerror)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except PermissionError as error:
            raise AccessDenied(
                f"{self.location}/{folder} cannot be listed: give this user read permission"
            ) from error
        return sorted(found, key=lambda item: item[0].encode())


def _not_readable(where: str) -> AccessDenied:
    return AccessDenied(f"{where} cannot be read: give this user read permission")


def _file_etag(stat: os.stat_result) -> bytes:
    return b'"%x-%x' % (stat.st_mtime_ns, stat.st_size)


def _listed_file(key: str, stat: os.stat_result) -> Listed:
    return Listed(key, stat.st_size, _file_etag(stat), Minute(int(stat.st_mtime // 60)), False)


class S3Bucket:
    """A bucket in S3: listed through obstore, read through libcurl (`curl`), the cheapest of each.

    obstore refuses a whole listing for one key that is no clean path (`a//b`, `..`, control
    characters), so whoever may write to the bucket could hide everything else in a folder: such
    listings go through boto3, and so do the few keys that libcurl does not ask for as they are.
    """

    def __init__(self, trail: Trail, settings: Settings) -> None:
        self.location = f"s3://{trail.bucket}"
        self._trail = trail
        self._settings = settings
        self._credentials = Credentials(trail)
        place = _place_of(trail, self._credentials)
        self._target = _target_at(place, trail, settings)
        self._transfers = transfers_of_process(settings.downloads_of(1))
        self._open_store = partial(_open_store, place, trail, settings)
        self._store = self._open_store(self._credentials)
        self._boto3_client: Any = None
        self._renewing = threading.Lock()
        self._unusable: tuple[float, CredentialsError] | None = None

    def list_folder(self, folder: str) -> Folder:
        """List what lies directly in `folder` (a delimiter listing, all pages)."""
        import obstore
        from obstore.exceptions import InvalidPathError

        def request() -> Folder:
            try:
                found = obstore.list_with_delimiter(self._store, folder)
            except (InvalidPathError, ValueError):
                return self._list_folder_by_boto3(folder)
            names = [path.rstrip("/").rpartition("/")[2] for path in found["common_prefixes"]]
            return Folder(names, [_listed_object(meta) for meta in found["objects"]])

        return self._retried(request, f"{self.location}/{folder}", self._list_permission)

    def list_page(self, folder: str, after: str) -> Page:
        """List what lies below `folder`, in key order, behind the key `after` ("": from the start).

        Each page is a request of its own (StartAfter), so a failed one is simply asked again.
        """
        import obstore
        from obstore.exceptions import InvalidPathError

        def request() -> Page:
            try:
                stream = obstore.list(
                    self._store, folder, offset=after or None, chunk_size=PAGE_SIZE
                )
                objects = [_listed_object(meta) for meta in next(iter(stream), ())]
                page = Page(objects, len(objects) < PAGE_SIZE)
            except (InvalidPathError, ValueError):
                page = self._list_page_by_boto3(folder, after)
            if not page.last and (not page.objects or page.objects[-1].key <= after):
                # A server without StartAfter: the same page again and again, for ever.
                raise StoreUnavailable(
                    f"{self.location}/{folder}: the listing does not go on behind {after!r}"
                )
            return page

        return self._retried(request, f"{self.location}/{folder}", self._list_permission)

    def get(self, key: str, etag: bytes | None) -> Fetched:
        """Read one object whole."""
        [found] = self.get_all([(key, etag)])
        if isinstance(found, StoreError):
            raise found
        return found

    def get_all(self, wanted: Sequence[tuple[str, bytes | None]]) -> "list[Fetched | StoreError]":
        """Read objects whole, side by side; errors are among what is returned."""
        wheres = [f"{self.location}/{key}" for key, _ in wanted]
        retries = -1

        def request(left: Sequence[int]) -> "list[Fetched | Exception]":
            nonlocal retries
            retries += 1
            answers = self._ask_for([wanted[number] for number in left])
            return [
                one if isinstance(one, Exception) else one._replace(retries=retries)
                for one in answers
            ]

        return self._all_retried(request, wheres, self._get_permission)

    def _ask_for(self, wanted: Sequence[tuple[str, bytes | None]]) -> "list[Fetched | Exception]":
        """One request for each of some objects."""
        found: list[Fetched | Exception | None] = [None] * len(wanted)
        asked: dict[int, Wanted] = {}
        for number, (key, etag) in enumerate(wanted):
            one = Wanted(key, None if etag is None else unpack_etag(etag))
            if can_ask_for(one):
                asked[number] = one
            else:
                try:
                    found[number] = self._get_by_boto3(key, etag)
                except client_errors() as error:
                    found[number] = error
        answers = self._transfers.get(self._target, self._keys(), list(asked.values()))
        for number, answer in zip(asked, answers, strict=True):
            if isinstance(answer, Answer):
                found[number] = Fetched(answer.body, pack_etag(answer.etag), 0)
            else:
                found[number] = answer
        return cast("list[Fetched | Exception]", found)

    def _keys(self) -> Keys:
        """The credentials that are good now."""
        try:
            keys = self._credentials()
        except client_errors() as error:
            raise _CredentialsFailed(error) from error
        return Keys(keys["access_key_id"], keys["secret_access_key"], keys["token"])

    def probe(self, key: str) -> None:
        """Read one byte of an object: what KMS denies shows too, unlike in a HEAD's answer.

        Tried once: only a denial is of interest, and that is no passing fault.
        """
        import obstore
        from obstore.exceptions import InvalidPathError

        try:
            try:
                obstore.get_range(self._store, key, start=0, end=1)
            except (InvalidPathError, ValueError):
                self._boto3().get_object(
                    Bucket=self._trail.bucket, Key=key, Range="bytes=0-0", **self._payer
                )
        except client_errors() as error:
            where = f"{self.location}/{key}"
            raise _translate(error, where, self._get_permission, self._trail) from error

    def get_described(self, key: str) -> Described:
        """Read one object whole, with its user metadata, through boto3 (digests are few)."""

        def request() -> Described:
            reply = self._boto3().get_object(Bucket=self._trail.bucket, Key=key, **self._payer)
            metadata = {str(name).lower(): str(value) for name, value in reply["Metadata"].items()}
            return Described(reply["Body"].read(), metadata)

        return self._retried(request, f"{self.location}/{key}", self._get_permission)

    @property
    def _list_permission(self) -> str:
        return f"s3:ListBucket on arn:aws:s3:::{self._trail.bucket}"

    @property
    def _get_permission(self) -> str:
        return f"s3:GetObject on arn:aws:s3:::{self._trail.bucket}/*"

    def _retried(self, request: Callable[[], T], where: str, permission: str) -> T:
        """Run a request as `_all_retried` does; raises what stands in the way."""

        def attempt(_left: Sequence[int]) -> "list[T | Exception]":
            return [request()]

        [result] = self._all_retried(attempt, [where], permission)
        if isinstance(result, StoreError):
            raise result
        return result

    def _all_retried(
        self,
        request: Callable[[Sequence[int]], "list[T | Exception]"],
        wheres: Sequence[str],
        permission: str,
    ) -> "list[T | StoreError]":
        """Ask for some things at once, again for those that may pass: growing pauses with jitter.

        `request` is told the numbers of those that are left, and says what came of each, in order;
        what it raises goes for all of them. All retries are made here and none inside obstore or
        libcurl: two levels multiply (a key that is throttled for good cost 20 requests), and those
        inside are in nobody's count.
        """
        results: dict[int, T | StoreError] = {}
        left = list(range(len(wheres)))
        last_start = time.monotonic() + TIMEOUTS * self._settings.client_timeout
        for attempt in range(ATTEMPTS):
            if attempt:
                share = uniform(0.5, 1)  # noqa: S311 - spreads retries, guards nothing
                time.sleep(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1) * share)
            credentials, unusable = self._credentials, self._why_unusable()
            if unusable is not None:
                results |= dict.fromkeys(left, unusable)
                break
            try:
                came = request(left)
            except client_errors() as error:
                came = [error] * len(left)
            is_last = attempt == ATTEMPTS - 1 or time.monotonic() >= last_start
            again = []
            for number, one in zip(left, came, strict=True):
                if not isinstance(one, Exception):
                    results[number] = one
                    continue
                failure = _translate(one, wheres[number], permission, self._trail)
                if isinstance(failure, CredentialsError) and (
                    is_last or not self._renewed(credentials)
                ):
                    self._unusable = (time.monotonic() + RENEWAL_SECONDS, failure)
                elif isinstance(failure, StoreUnavailable) and not is_last:
                    again.append(number)
                    continue
                failure.__cause__ = one
                results[number] = failure
            if not again:
                break
            left = again
        return [results[number] for number in range(len(wheres))]

    def _renewed(self, before: Credentials) -> bool:
        """Look for other credentials than those of `before`: whether there are any.

        Everything is looked up anew: files that `aws sso login` and others write, the role.
        """
        with self._renewing:
            if self._credentials is not before:
                return True  # another thread has renewed them
            found = None
            try:
                found = Credentials(self._trail)
                is_new = not found.are_those_of(self._credentials)
            except client_errors() as error:
                log.debug("no new credentials: %s", type(error).__name__)
                is_new = False
            if found is None or not is_new:
                return False
            log.info("%s: the AWS credentials expired; others were found", self.location)
            self._store = self._open_store(found)
            self._credentials, self._boto3_client = found, None
            return True

    def _why_unusable(self) -> CredentialsError | None:
        """What is wrong with the credentials, if that is known and not long ago."""
        unusable = self._unusable
        if unusable is None or time.monotonic() >= unusable[0]:
            self._unusable = None
            return None
        return unusable[1]

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
        if self._boto3_client is None:
            from botocore.config import Config

            self._boto3_client = self._credentials.session.client(
                "s3",
                region_name=self._trail.region,
                endpoint_url=self._trail.endpoint_url,
                config=Config(
                    connect_timeout=self._settings.connect_timeout,
                    read_timeout=self._settings.client_timeout,
                    retries={"total_max_attempts": 1},  # see `_retried`
                ),
            )
        return self._boto3_client


class _Place(NamedTuple):
    """Where a bucket is, for the clients that are told so."""

    region: str
    endpoint: str
    """Without the bucket's name, unless it is a part of the host's."""
    has_own_host: bool
    url: str
    """Of the bucket."""


def _place_of(trail: Trail, credentials: Credentials) -> _Place:
    region = trail.region or _bucket_region(trail, credentials.session)
    endpoint = trail.endpoint_url or endpoint_of_environment()
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    if not endpoint and "." not in trail.bucket:
        url = f"https://{trail.bucket}.s3.{region}.{domain}"
        return _Place(region, url, has_own_host=True, url=url)
    # A dotted name matches no certificate as a host's name.
    endpoint = (endpoint or f"https://s3.{region}.{domain}").rstrip("/")
    return _Place(region, endpoint, has_own_host=False, url=f"{endpoint}/{trail.bucket}")


def _target_at(place: _Place, trail: Trail, settings: Settings) -> Target:
    """A bucket for libcurl, with the authorities and proxies that boto3 and obstore go by."""
    system = ssl.get_default_verify_paths()  # heeds SSL_CERT_FILE and SSL_CERT_DIR
    own = os.environ.get("AWS_CA_BUNDLE")
    if own:
        _read_authorities(own)
    proxies = getproxies()
    scheme = urlsplit(place.url).scheme
    return Target(
        place.url,
        place.region,
        settings.connect_timeout,
        settings.client_timeout,
        own or system.cafile or _authorities_of_botocore(),
        system.capath,
        proxies.get(scheme) or proxies.get("all", ""),
        proxies.get("no", ""),
        ("x-amz-request-payer: requester",) if trail.requester_pays else (),
    )


def _authorities_of_botocore() -> str:
    """The file of authorities that boto3 brings, for systems without one."""
    import botocore

    return str(Path(botocore.__file__).with_name("cacert.pem"))


def _open_store(
    place: _Place, trail: Trail, settings: Settings, credentials: Credentials
) -> "S3Store":
    """An obstore store with boto3's credentials: one chain (profiles, SSO, roles) for all."""
    from obstore.store import S3Store

    client_options: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=settings.connect_timeout),
        "timeout": timedelta(seconds=settings.client_timeout),
        "allow_http": place.endpoint.startswith("http://"),
    }
    authorities = os.environ.get("AWS_CA_BUNDLE")
    if authorities:
        client_options["root_certificate"] = _read_authorities(authorities)
    return S3Store(
        trail.bucket,
        credential_provider=credentials,
        client_options=client_options,  # type: ignore[arg-type]
        retry_config={"max_retries": 0},  # see S3Bucket._all_retried
        request_payer=trail.requester_pays,
        region=place.region,
        endpoint=place.endpoint,
        virtual_hosted_style_request=place.has_own_host,
    )


def endpoint_of_environment() -> str | None:
    """An S3 endpoint that is set for every trail without one of its own, as boto3 takes it."""
    found = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return found.rstrip("/") if found else None


def _bucket_region(trail: Trail, session: Any) -> str:
    """The region that a bucket is in: HeadBucket answers with it even when it denies."""
    if trail.endpoint_url:
        return session.region_name or "us-east-1"
    from botocore.exceptions import BotoCoreError, ClientError

    client = session.client("s3", region_name=session.region_name or "us-east-1")
    permission = f"s3:ListBucket on arn:aws:s3:::{trail.bucket}"
    try:
        reply = client.head_bucket(Bucket=trail.bucket)
    except ClientError as error:
        headers = error.response["ResponseMetadata"].get("HTTPHeaders", {})
        region = headers.get("x-amz-bucket-region")
        if region:
            return str(region)
        if error.response.get("Error", {}).get("Code") == "404":
            raise _no_such_bucket(f"s3://{trail.bucket}") from error
        raise _translate(error, f"s3://{trail.bucket}", permission, trail) from error
    except BotoCoreError as error:
        raise _translate(error, f"s3://{trail.bucket}", permission, trail) from error
    return str(reply["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", "us-east-1"))


def _read_authorities(path: str) -> bytes:
    try:
        authorities = Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"AWS_CA_BUNDLE={path} cannot be read: {error.strerror}"
        ) from error
    if b"-----BEGIN CERTIFICATE-----" not in authorities:
        raise ConfigurationError(f"AWS_CA_BUNDLE={path} holds no certificate in PEM form")
    return authorities


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


def client_errors() -> tuple[type[Exception], ...]:
    """What obstore, boto3 and the network below them raise; they share no base.

    Nothing else is caught: a mistake of ours is no failing bucket, to be tried again and recorded.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError
    from obstore.exceptions import BaseError

    return (
        StoreError,
        OSError,
        BaseError,
        BotoCoreError,
        ClientError,
        ResponseParserError,
        CurlError,
        _CredentialsFailed,
    )


class _CredentialsFailed(Exception):
    """No credentials could be had for a request; its text is in obstore's form."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"External AWS credential provider: {type(cause).__name__}: {cause}")


def _translate(error: Exception, where: str, permission: str, trail: Trail) -> StoreError:
    """One of our errors for one of a client's: by its class, else by S3's error code."""
    if isinstance(error, StoreError):
        return error
    kind, text = type(error).__name__, str(error)
    code = _error_code(error, text)
    if isinstance(error, OtherAnswer):
        kind = _KINDS.get(error.status, text)
    if code == "InvalidObjectState":
        return ObjectArchived(f"{where} is archived: restore it from Glacier, then sync again")
    if code == "NoSuchBucket":
        return _no_such_bucket(where)
    if code in {"NoSuchKey", "404"}:
        return ObjectGone(f"{where} is no longer there")
    if kind == "PreconditionError" or code in {"PreconditionFailed", "412"}:
        return ObjectChanged(f"{where} was written again since it was listed")
    if code.startswith("KMS.") or "kms:" in text or getattr(error, "names_kms", False):
        return AccessDenied(
            f"{where}: access denied by KMS: kms:Decrypt on {trail.kms_key_id or _SOME_KEY} is"
            " missing"
        )
    wrong = _unusable_credentials(kind, code, text, where, trail) or _wrong_setup(
        error, code, text, where
    )
    if wrong is not None:
        return wrong
    if kind in {"PermissionDeniedError", "UnauthenticatedError"} or code in {"AccessDenied", "403"}:
        return AccessDenied(f"{where}: access denied: {permission} is missing")
    return _unavailable(kind, code, _cause(error, text), where)


def _unusable_credentials(
    kind: str, code: str, text: str, where: str, trail: Trail
) -> StoreError | None:
    """Whether it is the credentials that fail, which no object can be blamed for."""
    call = _CALL_FAILED.search(text)
    if call and call[2] == "AssumeRole":
        return CredentialsError(
            f"{where}: AWS credentials could not be obtained (AssumeRole: {call[1]}): check that"
            f" sts:AssumeRole on {trail.role_arn or 'the role of AWS_PROFILE'} is allowed, and by"
            " the role's trust policy too (its external id?)"
        )
    if code in _NOT_VALID:
        return CredentialsError(f"{where}: the AWS credentials are not valid ({code})")
    provider = _NO_CREDENTIALS.search(text)
    if provider or kind in _CREDENTIAL_ERRORS:
        cause = f"{call[2]}: {call[1]}" if call else provider[1] if provider else kind
        return CredentialsError(
            f"{where}: AWS credentials could not be obtained ({cause}); run `aws sso login`, or"
            " check AWS_PROFILE and its role"
        )
    return None


def _wrong_setup(error: Exception, code: str, text: str, where: str) -> StoreError | None:
    """What this machine or the configuration has wrong, and no further try mends."""
    if code == "RequestTimeTooSkewed":
        return AccessDenied(f"{where}: this machine's clock is wrong by more than 15 minutes")
    if code == "SignatureDoesNotMatch":
        return AccessDenied(f"{where}: the AWS credentials are not valid ({code})")
    if code in _OTHER_REGION or "inner: BareRedirect" in text:
        return StoreError(
            f"{where}: the bucket is in another region: correct the trail's `region`, or leave it"
            " out"
        )
    certificate = _NOT_TRUSTED.search(text)
    by_curl = isinstance(error, NoAnswer) and error.number == NOT_TRUSTED
    if certificate or by_curl:
        why = certificate[1] or certificate[2] if certificate else text
        return StoreError(
            f"{where}: the server's certificate is not trusted ({why}): if a private authority"
            " signed it, set AWS_CA_BUNDLE to a file with that authority's certificate"
        )
    return None


def _no_such_bucket(where: str) -> StoreError:
    return StoreError(f"{where}: there is no such bucket: check the trail's `bucket`")


def _unavailable(kind: str, code: str, cause: str, where: str) -> StoreUnavailable:
    if not code and kind in {"NotFoundError", "FileNotFoundError"}:  # S3 says what is not there
        return StoreUnavailable(
            f"{where}: a 404 came that is not S3's: check proxies and the trail's `endpoint_url`"
        )
    return StoreUnavailable(f"{where} cannot be read: {code or cause or kind}, after several tries")


def _cause(error: Exception, text: str) -> str:
    """What went wrong below HTTP, in words of ours: obstore's hold URLs and a dump of its error."""
    if isinstance(error, NoAnswer):
        return _CURL_CAUSES.get(error.number, text)
    match = _OBSTORE_CAUSE.search(text)
    return _CAUSES.get(match[1] or match[2], "") if match else ""


def _error_code(error: Exception, text: str) -> str:
    """S3's error code; only the code, since the rest of an answer may hold what is private."""
    if isinstance(error, OtherAnswer):
        return error.code
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return str(response.get("Error", {}).get("Code", ""))
    match = _ERROR_CODE.search(text)
    return match[1] if match else ""
