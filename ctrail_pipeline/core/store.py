"""Reading a bucket: in S3, or a local folder that holds a bucket's tree. One interface, read only.

Errors come as the classes of `exceptions`, naming bucket, key and the permission that is missing.
What to do about an error (try again, record, give up) is the caller's decision; a request that may
pass is retried here first. Nothing here knows what a log file is.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import islice
from pathlib import Path
from random import uniform
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar
from urllib.parse import quote, unquote, urlsplit

from .exceptions import (
    AccessDenied,
    ConfigurationError,
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

ATTEMPTS: Final = 4
"""How often one request is tried here, beyond the retries inside obstore."""

_FIRST_PAUSE_SECONDS: Final = 0.2
_WALKS_KEPT: Final = 1000
_MD5_ETAG: Final = re.compile(r"[0-9a-f]{32}")
_ERROR_CODE: Final = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")
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


class Bucket(Protocol):
    """A bucket that can be listed and read. Keys are as S3 has them; folders end in a slash."""

    location: str
    """How messages name it: `s3://name` or a `file://` URL."""

    def list_folder(self, folder: str) -> Folder:
        """List what lies directly in `folder` (a delimiter listing, all pages)."""
        ...

    def list_page(self, folder: str, after: str) -> Page:
        """List what lies below `folder` in key order behind the key `after` ("": from the start)."""
        ...

    def get(self, key: str, etag: bytes | None) -> Fetched:
        """Read one object whole; with `etag`, raise ObjectChanged if it is another version."""
        ...


def open_bucket(trail: Trail, settings: Settings) -> Bucket:
    """The bucket of a trail. No request is made yet, except to learn an unknown region."""
    if trail.bucket.startswith("file://"):
        return LocalBucket(Path(unquote(urlsplit(trail.bucket).path)))
    return S3Bucket(trail, settings)


def pack_etag(text: str) -> bytes:
    """An etag in few bytes: 16 for a plain MD5, else a quote and the text."""
    text = text.removeprefix("W/").strip('"')
    return bytes.fromhex(text) if _MD5_ETAG.fullmatch(text) else b'"' + text.encode()


def unpack_etag(packed: bytes) -> str:
    """The etag as HTTP has it, in quotes."""
    text = packed[1:].decode() if packed[:1] == b'"' and len(packed) != 16 else packed.hex()
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
                found.objects.append(_listed_file(folder + name, entry.stat()))
        return found

    def list_page(self, folder: str, after: str) -> Page:
        """List what lies below `folder` in key order behind the key `after` ("": from the start)."""
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
            raise AccessDenied(f"{where} cannot be read: give this user read permission") from error
        except OSError as error:
            raise StoreUnavailable(f"{where} cannot be read: {error.strerror}") from error
        return Fetched(body, found, 0)

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
                    found.append((entry.name + "/" if entry.is_dir() else entry.name, entry))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except PermissionError as error:
            raise AccessDenied(
                f"{self.location}/{folder} cannot be listed: give this user read permission"
            ) from error
        return sorted(found, key=lambda item: item[0].encode())


def _file_etag(stat: os.stat_result) -> bytes:
    return b'"%x-%x' % (stat.st_mtime_ns, stat.st_size)


def _listed_file(key: str, stat: os.stat_result) -> Listed:
    return Listed(key, stat.st_size, _file_etag(stat), Minute(int(stat.st_mtime // 60)), False)


class S3Bucket:
    """A bucket in S3, read through obstore (a tenth of boto3's CPU a GET: 0.11–0.22 ms, 1.8–2.1).

    obstore refuses a whole listing for one key that is no clean path (`a//b`, `..`, control
    characters), so whoever may write to the bucket could hide everything else in a folder: such
    listings, and such keys, go through boto3.
    """

    def __init__(self, trail: Trail, settings: Settings) -> None:
        self.location = f"s3://{trail.bucket}"
        self._trail = trail
        self._settings = settings
        self._store = _open_s3(trail, settings)
        self._boto3_client: Any = None

    def list_folder(self, folder: str) -> Folder:
        """List what lies directly in `folder` (a delimiter listing, all pages)."""
        import obstore
        from obstore.exceptions import InvalidPathError

        def request() -> Folder:
            try:
                found = obstore.list_with_delimiter(self._store, folder)
            except InvalidPathError:
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
            stream = obstore.list(self._store, folder, offset=after or None, chunk_size=PAGE_SIZE)
            try:
                objects = [_listed_object(meta) for meta in next(iter(stream), ())]
            except InvalidPathError:
                return self._list_page_by_boto3(folder, after)
            return Page(objects, len(objects) < PAGE_SIZE)

        return self._retried(request, f"{self.location}/{folder}", self._list_permission)

    def get(self, key: str, etag: bytes | None) -> Fetched:
        """Read one object whole."""
        import obstore
        from obstore.exceptions import InvalidPathError

        where = f"{self.location}/{key}"
        retries = -1

        def request() -> Fetched:
            nonlocal retries
            retries += 1
            options: Any = {} if etag is None else {"if_match": unpack_etag(etag)}
            try:
                result = obstore.get(self._store, key, options=options)
                meta = result.meta
                body = bytes(result.bytes())
            except InvalidPathError:
                return self._get_by_boto3(key, etag)
            if len(body) != meta["size"]:
                raise StoreUnavailable(
                    f"{where} was cut short: {len(body)} of {meta['size']} bytes arrived"
                )
            return Fetched(body, pack_etag(meta["e_tag"] or ""), retries)

        return self._retried(request, where, self._get_permission)

    @property
    def _list_permission(self) -> str:
        return f"s3:ListBucket on arn:aws:s3:::{self._trail.bucket}"

    @property
    def _get_permission(self) -> str:
        return f"s3:GetObject on arn:aws:s3:::{self._trail.bucket}/*"

    def _retried(self, request: Callable[[], T], where: str, permission: str) -> T:
        """Run a request; try again what may pass, with growing pauses and jitter."""
        attempt = 1
        while True:
            try:
                return request()
            except Exception as error:
                failure = _translate(error, where, permission)
                if attempt == ATTEMPTS or not isinstance(failure, StoreUnavailable):
                    raise failure from error
            time.sleep(_FIRST_PAUSE_SECONDS * 4 ** (attempt - 1) * uniform(0.5, 1))  # noqa: S311
            attempt += 1

    def _list_folder_by_boto3(self, folder: str) -> Folder:
        found = Folder([], [])
        pages = self._boto3().get_paginator("list_objects_v2")
        for reply in pages.paginate(Bucket=self._trail.bucket, Prefix=folder, Delimiter="/"):
            for common in reply.get("CommonPrefixes", ()):
                found.folders.append(common["Prefix"][len(folder) : -1])
            found.objects.extend(_listed_by_boto3(item) for item in reply.get("Contents", ()))
        return found

    def _list_page_by_boto3(self, folder: str, after: str) -> Page:
        reply = self._boto3().list_objects_v2(
            Bucket=self._trail.bucket, Prefix=folder, StartAfter=after, MaxKeys=PAGE_SIZE
        )
        objects = [_listed_by_boto3(item) for item in reply.get("Contents", ())]
        return Page(objects, not reply["IsTruncated"])

    def _get_by_boto3(self, key: str, etag: bytes | None) -> Fetched:
        condition = {} if etag is None else {"IfMatch": unpack_etag(etag)}
        reply = self._boto3().get_object(Bucket=self._trail.bucket, Key=key, **condition)
        return Fetched(reply["Body"].read(), pack_etag(reply["ETag"]), 0)

    def _boto3(self) -> Any:
        if self._boto3_client is None:
            import boto3
            from botocore.config import Config

            self._boto3_client = boto3.session.Session().client(
                "s3",
                region_name=self._trail.region,
                endpoint_url=self._trail.endpoint_url,
                config=Config(
                    connect_timeout=self._settings.connect_timeout,
                    read_timeout=self._settings.client_timeout,
                ),
            )
        return self._boto3_client


def _open_s3(trail: Trail, settings: Settings) -> "S3Store":
    """An obstore store with boto3's credentials: one chain (profiles, SSO, roles) for both."""
    import boto3
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import S3Store

    session = boto3.session.Session()
    try:
        credentials = Boto3CredentialProvider(session)
    except ValueError as error:
        raise AccessDenied(
            f"trail {trail.name!r}: no AWS credentials were found; set AWS_PROFILE, run "
            "`aws sso login`, or give this machine a role"
        ) from error
    region = trail.region or _bucket_region(trail, session)
    client_options: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=settings.connect_timeout),
        "timeout": timedelta(seconds=settings.client_timeout),
        "allow_http": (trail.endpoint_url or "").startswith("http://"),
    }
    authorities = os.environ.get("AWS_CA_BUNDLE")
    if authorities:
        client_options["root_certificate"] = _read_authorities(authorities)
    location: dict[str, Any] = {"region": region, "virtual_hosted_style_request": False}
    if trail.endpoint_url:
        location["endpoint"] = trail.endpoint_url
    elif "." not in trail.bucket:  # a dotted name matches no certificate as a host name
        location["virtual_hosted_style_request"] = True
    return S3Store(
        trail.bucket,
        credential_provider=credentials,
        client_options=client_options,  # type: ignore[arg-type]
        retry_config={
            "max_retries": 4,
            "retry_timeout": timedelta(seconds=max(settings.client_timeout, 60)),
        },
        **location,
    )


def _bucket_region(trail: Trail, session: Any) -> str:
    """The region that a bucket is in: HeadBucket answers with it even when it denies."""
    if trail.endpoint_url:
        return session.region_name or "us-east-1"
    from botocore.exceptions import BotoCoreError, ClientError

    client = session.client("s3", region_name=session.region_name or "us-east-1")
    try:
        reply = client.head_bucket(Bucket=trail.bucket)
    except ClientError as error:
        headers = error.response["ResponseMetadata"].get("HTTPHeaders", {})
        region = headers.get("x-amz-bucket-region")
        if region:
            return str(region)
        raise _translate(
            error, f"s3://{trail.bucket}", f"s3:ListBucket on arn:aws:s3:::{trail.bucket}"
        ) from error
    except BotoCoreError as error:
        raise StoreUnavailable(f"s3://{trail.bucket} cannot be reached: {error}") from error
    return str(reply["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", "us-east-1"))


def _read_authorities(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"AWS_CA_BUNDLE={path} cannot be read: {error.strerror}"
        ) from error


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


def _translate(error: Exception, where: str, permission: str) -> StoreError:
    """One of our errors for one of a client's: by its class, else by S3's error code."""
    if isinstance(error, StoreError):
        return error
    kind, text = type(error).__name__, str(error)
    code = _error_code(error, text)
    if code == "InvalidObjectState":
        return ObjectArchived(f"{where} is archived: restore it from Glacier, then sync again")
    if code == "NoSuchBucket":
        return StoreError(f"{where}: there is no such bucket: check the trail's `bucket`")
    if kind in {"NotFoundError", "FileNotFoundError"} or code in {"NoSuchKey", "404"}:
        return ObjectGone(f"{where} is no longer there")
    if kind == "PreconditionError" or code in {"PreconditionFailed", "412"}:
        return ObjectChanged(f"{where} was written again since it was listed")
    if code.startswith("KMS.") or "kms:" in text:
        return AccessDenied(
            f"{where}: access denied by KMS: kms:Decrypt on the trail's key is missing"
        )
    if code in {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}:
        return AccessDenied(f"{where}: the AWS credentials are not valid ({code})")
    if kind in {"PermissionDeniedError", "UnauthenticatedError"} or code in {"AccessDenied", "403"}:
        return AccessDenied(f"{where}: access denied: {permission} is missing")
    if code in {"PermanentRedirect", "AuthorizationHeaderMalformed"}:
        return StoreError(f"{where}: the bucket is in another region: set the trail's `region`")
    return StoreUnavailable(f"{where} cannot be read: {code or kind}, after several tries")


def _error_code(error: Exception, text: str) -> str:
    """S3's error code; only the code, since the rest of an answer may hold what is private."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return str(response.get("Error", {}).get("Code", ""))
    match = _ERROR_CODE.search(text)
    return match[1] if match else ""
