"""boto3 as a client of one bucket: for the few requests that libcurl does not make.

boto3 trusts an answer more than it should: it takes any status below 300 for success, and fields
that are missing for empty. So its answers are checked here as libcurl's are. Trying again and
translating errors are left to the caller.
"""

from contextlib import closing
from typing import Any, Final

from ctrail_pipeline.core.keys.minutes import minute_of
from ctrail_pipeline.core.settings import BucketAccess, Settings

from .credential_renewal import RenewableCredentials
from .credentials import Credentials
from .curl_request import TOO_LONG, Answer, NoAnswer, OtherAnswer
from .current_endpoint import CurrentEndpoint
from .endpoint import BODY, Endpoint, open_client
from .etag import pack_etag, unpack_etag
from .interface import PAGE_SIZE, Described, Fetched, Listed
from .list_answer import ListAnswer, ListRequest, NotAList, list_answer
from .misdirected import misdirected

_OK: Final = 200
NO_ETAG: Final = "the answer is no object (it has no ETag)"
"""The reason of an answer with status 200 that is none of S3's."""


class Boto3Client:
    """One bucket, asked through boto3. Its errors are boto3's and `CurlError`."""

    def __init__(
        self,
        access: BucketAccess,
        settings: Settings,
        credentials: RenewableCredentials,
        endpoint: CurrentEndpoint,
    ) -> None:
        self._access = access
        self._settings = settings
        self._credentials = credentials
        self._endpoint = endpoint
        self._opened: tuple[Credentials, Endpoint, Any] | None = None
        self._location = f"s3://{access.bucket}"
        self._payer = {"RequestPayer": "requester"} if access.requester_pays else {}

    def list(self, request: ListRequest) -> ListAnswer:
        """Make one LIST request."""
        where = {"StartAfter": request.after}
        if request.token:
            where = {"ContinuationToken": request.token}
        try:
            reply = self._ask(
                "list_objects_v2",
                Prefix=request.folder,
                Delimiter="/" if request.by_folder else "",
                MaxKeys=PAGE_SIZE,
                **where,
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
        reply = self._ask("get_object", Key=key, **condition)
        limit = self._settings.max_stored_bytes
        with closing(reply["Body"]) as stream:
            _check_status(reply)
            body: bytes = stream.read(limit + 1)
        if len(body) > limit:
            raise NoAnswer(TOO_LONG, "too long")
        if not reply.get("ETag"):
            location = f"{self._location}/{key}"
            page = misdirected(Answer(body, ""), self._endpoint.current, location, self._access)
            raise page or OtherAnswer(_OK, reason=NO_ETAG)
        if len(body) != reply.get("ContentLength"):
            # boto3 notices by itself that a body is cut short, but not without a length.
            raise OtherAnswer(_OK, reason="the connection broke")
        return body, reply

    def _ask(self, operation: str, **parameters: Any) -> Any:
        """Make a request, and once more where S3 names another endpoint."""
        from botocore.exceptions import ClientError

        while True:
            endpoint, client = self._client()
            try:
                reply = getattr(client, operation)(
                    Bucket=self._access.bucket, **parameters, **self._payer
                )
            except ClientError as error:
                answer = _answer(error.response)
                if self._endpoint.follow(endpoint, answer.elsewhere):
                    continue
                location = f"{self._location}/{parameters.get('Key') or parameters['Prefix']}"
                raise (misdirected(answer, endpoint, location, self._access) or answer) from error
            return reply

    def _client(self) -> tuple[Endpoint, Any]:
        """Open a client at its first use, and again for new credentials or another endpoint."""
        opened = self._opened
        credentials, endpoint = self._credentials.current, self._endpoint.current
        credentials()  # so that what goes wrong with them is said as ours
        if opened is None or opened[0] is not credentials or opened[1] is not endpoint:
            client = open_client(endpoint, self._access, self._settings, credentials.session)
            opened = self._opened = (credentials, endpoint, client)
        return opened[1:]


def _answer(reply: Any) -> OtherAnswer:
    """An answer as libcurl would give it."""
    about = reply["ResponseMetadata"]
    headers = about.get("HTTPHeaders", {}).items()
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return OtherAnswer(about["HTTPStatusCode"], reply.get(BODY, b""), head=head.encode())


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
