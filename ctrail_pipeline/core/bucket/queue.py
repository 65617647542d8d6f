"""A queue of SQS, asked with the credentials of a trail: receive messages, and delete them.

Host, proxies, authorities and credentials come from botocore, as they do for buckets. Errors are
those of buckets, and name the queue and the permission that is missing (`queue_errors`). Not here:
what messages say.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.settings import BucketAccess, Settings

from .boundary import boundary
from .credentials import Credentials
from .endpoint import authorities_of, first_region, region_of_host
from .queue_errors import translate_queue_error
from .s3_errors import client_errors

MESSAGES_AT_ONCE: Final = 10
"""Messages of one answer: SQS gives no more."""
LONGEST_WAIT_SECONDS: Final = 20
"""How long SQS lets a request wait for a message at most."""
_ATTEMPTS: Final = 3
_RECEIVE: Final = "sqs:ReceiveMessage"
_DELETE: Final = "sqs:DeleteMessage"


class Message(NamedTuple):
    """A message as it was received."""

    id: str
    receipt: str
    """What deletes the message, as long as nobody received it again."""
    body: str
    is_first_receipt: bool
    """Whether nobody received the message before, as far as SQS knows."""


class NotificationQueue:
    """One queue; may be used in several threads. It is asked nothing before it is used."""

    def __init__(self, url: str, access: BucketAccess, settings: Settings) -> None:
        """`access`: whose credentials are used. Raises StoreError."""
        if url.endswith(".fifo"):
            raise StoreError(
                f"{url}: S3 sends no notifications to a FIFO queue: make a standard queue"
            )
        self._url = url
        self._access = access
        with boundary(access):
            session = Credentials(access).session
            host = urlsplit(url).hostname or ""
            named = region_of_host(host, session)
            region = named or first_region(access, session)
            # The endpoint of a VPC is AWS's, too, but botocore would ask the public one.
            is_found_by_region = named is not None and ".vpce." not in host
            self._client = session.create_client(
                "sqs",
                region_name=region,
                endpoint_url=None if is_found_by_region else _origin(url),
                verify=authorities_of(session),
                config=_config(settings),
            )
            self._arn = _arn(url, region, self._client.meta.partition)

    def receive(self, wait_seconds: int) -> list[Message]:
        """Receive messages; wait so long for the first one. Raises StoreError.

        SQS hides them from everybody else for the queue's visibility timeout.
        """
        reply = self._ask(
            _RECEIVE,
            "receive_message",
            MaxNumberOfMessages=MESSAGES_AT_ONCE,
            WaitTimeSeconds=wait_seconds,
            AttributeNames=["ApproximateReceiveCount"],
        )
        with boundary(self._access):
            return [
                Message(
                    str(item["MessageId"]),
                    str(item["ReceiptHandle"]),
                    str(item["Body"]),
                    item.get("Attributes", {}).get("ApproximateReceiveCount", "1") == "1",
                )
                for item in reply.get("Messages", ())
            ]

    def delete(self, messages: Sequence[Message]) -> None:
        """Delete up to MESSAGES_AT_ONCE messages; what SQS fails to delete comes again.

        Raises StoreError.
        """
        entries = [
            {"Id": str(number), "ReceiptHandle": message.receipt}
            for number, message in enumerate(messages)
        ]
        self._ask(_DELETE, "delete_message_batch", Entries=entries)

    def _ask(self, permission: str, operation: str, **parameters: Any) -> Any:
        with boundary(self._access):
            try:
                return getattr(self._client, operation)(QueueUrl=self._url, **parameters)
            except client_errors() as error:
                raise translate_queue_error(
                    error, self._url, f"{permission} on {self._arn}"
                ) from error


def _config(settings: Settings) -> Any:
    from botocore.config import Config

    return Config(
        connect_timeout=settings.connect_timeout,
        # A request that waits for a message must not be taken for one that hangs.
        read_timeout=settings.client_timeout + LONGEST_WAIT_SECONDS,
        retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"},
        max_pool_connections=32,
    )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _arn(url: str, region: str, partition: str) -> str:
    account, _, name = urlsplit(url).path.strip("/").rpartition("/")
    return f"arn:{partition}:sqs:{region}:{account}:{name}"
