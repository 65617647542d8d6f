"""The requests to the output's bucket. Each is tried again, and its errors are StoreErrors.

obstore writes, copies, removes and reads; libcurl lists, as for a trail. Credentials, endpoint,
retries and the meaning of errors are those of `core.bucket`. obstore is told all that it would look
up by itself. Whatever it says, a COPY counts only once its target is seen (`publishing`).
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

from ctrail_pipeline.core.bucket.boundary import boundary
from ctrail_pipeline.core.bucket.credentials import Credentials
from ctrail_pipeline.core.bucket.endpoint import Endpoint, RegionSource
from ctrail_pipeline.core.bucket.interface import Folder, Listed
from ctrail_pipeline.core.bucket.misdirected import misdirected
from ctrail_pipeline.core.bucket.s3 import S3Bucket
from ctrail_pipeline.core.bucket.s3_errors import done_with
from ctrail_pipeline.core.exceptions import (
    ObjectChanged,
    ObjectGone,
    StoreError,
    StoreUnavailable,
)
from ctrail_pipeline.core.settings import OutputBucket, Settings

from .obstore_answers import answer_of, obstore_errors

if TYPE_CHECKING:
    from obstore.store import S3Store

_Result = TypeVar("_Result")
_KEYS_ARE_GOOD_FOR: Final = timedelta(minutes=6)
"""obstore asks for credentials again five minutes before they expire, so after one minute."""
_BEHIND_THE_END: Final = 416
_ENCRYPTION: Final = ("AWS_SERVER_SIDE_ENCRYPTION", "AWS_SSE_CUSTOMER_KEY_BASE64")
"""Variables that obstore alone reads, and that nothing it is given could overrule."""
_NOBODY: Final = "http://127.0.0.1:9"
"""A proxy that is never asked: with one, obstore looks for no other in the environment."""
_SURE: Final = frozenset({RegionSource.CONFIGURED, RegionSource.NAMED, RegionSource.ANSWERED})


class Found(NamedTuple):
    """An object as a HEAD shows it."""

    size: int
    """Bytes."""
    etag: str
    metadata: Mapping[str, str]
    """User metadata by lower-case name, beside other headers."""


class Piece(NamedTuple):
    """A part of an object."""

    data: bytes
    size: int
    """Bytes of the whole object."""
    etag: str


class ObjectStore:
    """The output's bucket, for reading and writing. May be used in several threads."""

    def __init__(self, access: OutputBucket, settings: Settings) -> None:
        """Nothing is opened or asked yet."""
        self.location = f"s3://{access.bucket}"
        self._access = access
        self._settings = settings
        self._opening = Lock()
        self._s3: S3Bucket | None = None
        self._opened: tuple[Credentials, Endpoint, S3Store] | None = None

    # -- reading ----------------------------------------------------------------------------------

    def list_folder(self, folder: str) -> Folder:
        """List what lies directly below a folder, whose name ends with a slash."""
        return self._bucket().list_folder(folder)

    def list_below(self, folder: str) -> Iterator[Listed]:
        """Yield all objects below a folder, in the order of their keys."""
        after, is_expected = "", False
        while True:
            page = self._bucket().list_page(folder, after, expected=is_expected)
            yield from page.objects
            if page.last:
                return
            after, is_expected = page.objects[-1].key, True

    def holds(self, folder: str) -> bool:
        """Whether anything lies below a folder."""
        return bool(self._bucket().list_page(folder, "").objects)

    def head(self, key: str) -> Found | None:
        """Return what an object is; None if there is none."""
        import obstore

        def request(store: "S3Store") -> Found:
            result = obstore.get(store, key, options={"head": True})
            metadata = {str(name).lower(): str(value) for name, value in result.attributes.items()}
            return Found(result.meta["size"], result.meta["e_tag"] or "", metadata)

        try:
            return self._ask(request, key, self._endpoint().get_permission, is_head=True)
        except ObjectGone:
            return None

    def get(self, key: str, start: int, size: int) -> Piece:
        """Return `size` bytes of an object from `start` on, fewer at its end.

        Raises ObjectGone.
        """
        import obstore

        def request(store: "S3Store") -> Piece:
            try:
                result = obstore.get(store, key, options={"range": (start, start + size)})
                data = bytes(result.bytes())
            except obstore_errors() as error:
                answer = answer_of(error)
                if getattr(answer, "status", 0) == _BEHIND_THE_END:
                    return Piece(b"", 0, "")
                raise
            return Piece(data, result.meta["size"], result.meta["e_tag"] or "")

        return self._ask(request, key, self._endpoint().get_permission)

    # -- writing ----------------------------------------------------------------------------------

    def put(
        self,
        key: str,
        content: bytes | bytearray,
        metadata: Mapping[str, str],
        *,
        if_absent: bool = False,
        if_etag: str | None = None,
    ) -> bool:
        """Write an object whole; it is durable when this returns.

        Returns False, and writes nothing, if a condition does not hold: that there is no object of
        this name, or that it has an etag. An earlier try may have written it: then no error tells.
        """
        import obstore

        mode: Any = "overwrite"
        if if_absent or if_etag is not None:
            mode = "create" if if_absent else {"e_tag": if_etag}

        def request(store: "S3Store") -> bool:
            written = obstore.put(
                store, key, content, attributes=dict(metadata), mode=mode, use_multipart=False
            )
            if not written["e_tag"]:
                raise StoreUnavailable(
                    f"{self.location}/{key} cannot be written: the answer is not S3's (it has no"
                    " ETag): check proxies and the network's filters"
                )
            return True

        try:
            return self._ask(request, key, self._endpoint().put_permission)
        except (ObjectChanged, ObjectGone):
            if mode == "overwrite":
                raise
            return False

    def copy(self, source: str, target: str, *, if_absent: bool) -> bool:
        """Ask the server to copy an object; return False if the target has to be absent and is not.

        Raises ObjectGone if there is no source. What no error says is not sure: S3 may answer 200
        with an error in the body, which obstore overlooks. So look at the target.
        """
        import obstore

        def request(store: "S3Store") -> bool:
            obstore.copy(store, source, target, overwrite=not if_absent)
            return True

        try:
            return self._ask(request, target, self._endpoint().put_permission)
        except ObjectChanged:
            return False

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects, a thousand a request. Safe to repeat."""
        import obstore

        if keys:
            self._ask(
                lambda store: obstore.delete(store, list(keys)),
                keys[0],
                self._endpoint().delete_permission,
            )

    # -- the client -------------------------------------------------------------------------------

    def _ask(
        self,
        request: "Callable[[S3Store], _Result]",
        key: str,
        permission: str,
        *,
        is_head: bool = False,
    ) -> _Result:
        """Make a request through obstore, again while it may succeed. Raises StoreError."""
        location = f"{self.location}/{key}"
        bucket = self._bucket()

        def attempt() -> _Result:
            while True:
                endpoint, store = self._store()
                try:
                    return request(store)
                except ValueError as error:
                    raise StoreError(f"{location}: obstore cannot ask for this name") from error
                except obstore_errors() as error:
                    answer = answer_of(error, is_head=is_head)
                    elsewhere = getattr(answer, "elsewhere", None)
                    if bucket.current_endpoint.follow(endpoint, elsewhere):
                        continue
                    failure = misdirected(
                        answer, endpoint, location, self._access, done_with(permission)
                    )
                    raise failure or answer from error

        return bucket.retries.ask(attempt, location, permission)

    def _bucket(self) -> S3Bucket:
        """Open the bucket at its first use: then credentials are looked for."""
        with self._opening:
            if self._s3 is None:
                with boundary(self._access):
                    bucket = S3Bucket(self._access, self._settings)
                if bucket.endpoint.is_at_aws and bucket.endpoint.region_source not in _SURE:
                    # Only an answer to libcurl says where the bucket is: obstore hides redirects.
                    bucket.list_page(f"{self._access.events.prefix}/", "")
                self._s3 = bucket
            return self._s3

    def _endpoint(self) -> Endpoint:
        return self._bucket().endpoint

    def _store(self) -> "tuple[Endpoint, S3Store]":
        """Open obstore's store at its first use, and again for new credentials or endpoint."""
        bucket = self._bucket()
        with self._opening:
            credentials, endpoint = bucket.credentials.current, bucket.endpoint
            credentials()  # so that what goes wrong with them is said as ours
            opened = self._opened
            if opened is None or opened[0] is not credentials or opened[1] is not endpoint:
                store = _open_store(self._access, self._settings, endpoint, credentials)
                opened = self._opened = (credentials, endpoint, store)
            return opened[1:]


def _open_store(
    access: OutputBucket, settings: Settings, endpoint: Endpoint, credentials: Credentials
) -> "S3Store":
    """Open a store of obstore's that asks the same endpoint as all other clients.

    obstore reads variables by itself, some of which would beat what it is given. So each of those
    is given. Retries are made in `core.bucket.s3_retry`, and none in obstore.
    """
    from obstore.store import S3Store

    variable = next((name for name in _ENCRYPTION if os.environ.get(name)), None)
    if variable is not None:
        raise StoreError(
            f"{access.title}: {variable} is set, which would change how objects are encrypted:"
            " unset it, and name a key of KMS in `output.kms_key_id`"
        )
    encryption: dict[str, Any] = {}
    if access.kms_key_id is not None:
        encryption = {
            "server_side_encryption": "aws:kms",
            "sse_kms_key_id": access.kms_key_id,
            "sse_bucket_key_enabled": True,
        }

    def keys() -> dict[str, Any]:
        found = credentials()
        return {
            "access_key_id": found.access_key,
            "secret_access_key": found.secret_key,
            "token": found.token,
            "expires_at": datetime.now(UTC) + _KEYS_ARE_GOOD_FOR,
        }

    parts = urlsplit(endpoint.bucket_url)
    client: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=settings.connect_timeout),
        "timeout": timedelta(seconds=settings.client_timeout),
        "allow_http": parts.scheme == "http",
        "proxy_url": endpoint.proxy or _NOBODY,
        "proxy_excludes": "" if endpoint.proxy else endpoint.host,
    }
    if "https" in {parts.scheme, urlsplit(endpoint.proxy).scheme}:
        authorities = Path(endpoint.authorities_file).read_bytes()
        client |= {"root_certificate": authorities, "proxy_ca_certificate": authorities}
    return S3Store(
        access.bucket,
        credential_provider=keys,  # type: ignore[arg-type]
        client_options=client,  # type: ignore[arg-type]
        retry_config={"max_retries": 0},
        endpoint=endpoint.bucket_url,
        aws_endpoint_url_s3=endpoint.bucket_url,
        virtual_hosted_style_request=True,  # the bucket is in the URL already
        region=endpoint.region,
        skip_signature=False,
        unsigned_payload=False,
        s3_express=False,
        request_payer=False,
        checksum_algorithm="sha256",
        conditional_put="etag",
        copy_if_not_exists="header:If-None-Match:*",
        disable_bulk_delete=False,
        **encryption,
    )
