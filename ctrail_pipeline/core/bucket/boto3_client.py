"""boto3 as a client of one bucket: for the few requests that libcurl does not make.

boto3 trusts an answer more than it should: it takes any status below 300 for success, and fields
that are missing for empty. So its answers are checked here as libcurl's are. Trying again and
translating errors are left to the caller.
"""

from contextlib import closing
from typing import Any, Final

from ctrail_pipeline.core.keys.minutes import minute_of
from ctrail_pipeline.core.settings import Settings, Trail

from .credential_renewal import RenewableCredentials
from .credentials import Credentials
from .curl_request import TOO_LONG, NoAnswer, OtherAnswer
from .etag import pack_etag, unpack_etag
from .interface import PAGE_SIZE, Described, Fetched, Listed
from .list_answer import ListAnswer, ListRequest, NotAList, list_answer

_OK: Final = 200
NO_ETAG: Final = "the answer is no object (it has no ETag)"
"""The reason of an answer with status 200 that is none of S3's."""


class Boto3Client:
    """One bucket, asked through boto3. Its errors are boto3's and `CurlError`."""

    def __init__(self, trail: Trail, settings: Settings, credentials: RenewableCredentials) -> None:
        self._trail = trail
        self._settings = settings
        self._credentials = credentials
        self._opened: tuple[Credentials, Any] | None = None
        self._payer = {"RequestPayer": "requester"} if trail.requester_pays else {}

    def list(self, request: ListRequest) -> ListAnswer:
        """Make one LIST request."""
        where = {"StartAfter": request.after}
        if request.token:
            where = {"ContinuationToken": request.token}
        try:
            reply = self._client().list_objects_v2(
                Bucket=self._trail.bucket,
                Prefix=request.folder,
                Delimiter="/" if request.by_folder else "",
                MaxKeys=PAGE_SIZE,
                **where,
                **self._payer,
            )
            _check_status(reply)
            objects = [_listed(item) for item in reply.get("Contents", ())]
            folders = [item["Prefix"] for item in reply.get("CommonPrefixes", ())]
        except KeyError as error:
            raise NotAList(f"an entry without {error.args[0]}") from error
        except ValueError as error:
            raise NotAList("an entry whose size or time cannot be read") from error
        return list_answer(
            request,
            reply.get("Prefix"),
            reply.get("IsTruncated"),
            reply.get("NextContinuationToken", ""),
            objects,
            folders,
        )

    def get(self, key: str, etag: bytes | None) -> Fetched:
        """Read one object whole."""
        condition = {} if etag is None else {"IfMatch": unpack_etag(etag)}
        body, reply = self._get(key, condition)
        return Fetched(body, pack_etag(reply["ETag"]), 0)

    def get_described(self, key: str) -> Described:
        """Read one object whole, with its user metadata."""
        body, reply = self._get(key, {})
        metadata = {str(name).lower(): str(value) for name, value in reply["Metadata"].items()}
        return Described(body, metadata)

    def _get(self, key: str, condition: dict[str, str]) -> tuple[bytes, Any]:
        reply = self._client().get_object(
            Bucket=self._trail.bucket, Key=key, **condition, **self._payer
        )
        limit = self._settings.max_stored_bytes
        with closing(reply["Body"]) as stream:
            _check_status(reply)
            body: bytes = stream.read(limit + 1)
        if len(body) > limit:
            raise NoAnswer(TOO_LONG, "too long")
        if not reply.get("ETag"):
            raise OtherAnswer(_OK, reason=NO_ETAG)
        if len(body) != reply.get("ContentLength"):
            # boto3 notices by itself that a body is cut short, but not without a length.
            raise OtherAnswer(_OK, reason="the connection broke")
        return body, reply

    def _client(self) -> Any:
        """Open boto3's client at its first use, and again for new credentials."""
        opened, credentials = self._opened, self._credentials.current
        credentials()  # so that what goes wrong with them is said as ours
        if opened is None or opened[0] is not credentials:
            opened = self._opened = (credentials, self._open(credentials))
        return opened[1]

    def _open(self, credentials: Credentials) -> Any:
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


def _check_status(reply: Any) -> None:
    status = reply["ResponseMetadata"]["HTTPStatusCode"]
    if status != _OK:
        raise OtherAnswer(status)


def _listed(item: Any) -> Listed:
    return Listed(
        item["Key"],
        item["Size"],
        pack_etag(item["ETag"]),
        minute_of(item["LastModified"]),
        archived=False,
    )
