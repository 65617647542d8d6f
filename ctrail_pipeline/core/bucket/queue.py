"""A queue of SQS, asked with the credentials of a trail: receive messages, and delete them.

Host, proxies, authorities and credentials come from botocore, as they do for buckets. Errors are
those of buckets, and name the queue and the permission that is missing (`queue_errors`). Not here:
what messages say.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.settings import BucketAccess, Settings

from .boundary import boundary
from .credentials import Credentials
from .endpoint import authorities_of, first_region, region_of_host
from .queue_errors import translate_queue_error
from .s3_errors import client_errors

log = logging.getLogger(__name__)

MESSAGES_AT_ONCE: Final = 10
"""Messages of one answer: SQS gives no more."""
LONGEST_WAIT_SECONDS: Final = 20
"""How long SQS lets a request wait for a message at most."""
_ATTEMPTS: Final = 3
_IN_A_QUEUE: Final = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
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
    sent_at: float
    """When it was sent (seconds since 1970); 0 if SQS does not say."""


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
            {
                "QueueUrl": self._url,
                "MaxNumberOfMessages": MESSAGES_AT_ONCE,
                "WaitTimeSeconds": wait_seconds,
                "AttributeNames": ["ApproximateReceiveCount", "SentTimestamp"],
            },
        )
        with boundary(self._access):
            return [
                Message(
                    str(item["MessageId"]),
                    str(item["ReceiptHandle"]),
                    str(item["Body"]),
                    attributes.get("ApproximateReceiveCount", "1") == "1",
                    int(attributes.get("SentTimestamp", 0)) / 1_000,
                )
                for item in reply.get("Messages", ())
                for attributes in [item.get("Attributes", {})]
            ]

    def delete(self, messages: Sequence[Message]) -> None:
        """Delete up to MESSAGES_AT_ONCE messages; what SQS fails to delete comes again.

        Raises StoreError.
        """
        entries = [
            {"Id": str(number), "ReceiptHandle": message.receipt}
            for number, message in enumerate(messages)
        ]
        parameters = {"QueueUrl": self._url, "Entries": entries}
        self._ask(_DELETE, "delete_message_batch", parameters)

    def waiting(self) -> tuple[int | None, int | None]:
        """Return how many messages are in the queue, and in its dead-letter queue.

        None where nobody may ask, or where there is none.
        """
        waiting = dead_letters = None
        try:
            attributes = self._attributes(self._url)
            waiting = _messages_in(attributes)
            with boundary(self._access):
                dead = json.loads(attributes.get("RedrivePolicy", "{}")).get("deadLetterTargetArn")
            if dead:
                *_, account, name = dead.split(":")
                reply = self._ask(
                    "sqs:GetQueueUrl",
                    "get_queue_url",
                    {"QueueName": name, "QueueOwnerAWSAccountId": account},
                )
                dead_letters = _messages_in(self._attributes(reply["QueueUrl"]))
        except StoreError as error:  # these numbers are for people, and need further permissions
            log.debug("%s", error)
        return waiting, dead_letters

    def _attributes(self, url: str) -> Any:
        names = [*_IN_A_QUEUE, "RedrivePolicy"]
        parameters = {"QueueUrl": url, "AttributeNames": names}
        reply = self._ask("sqs:GetQueueAttributes", "get_queue_attributes", parameters)
        return reply.get("Attributes", {})

    def _ask(self, permission: str, operation: str, parameters: Mapping[str, Any]) -> Any:
        with boundary(self._access):
            try:
                return getattr(self._client, operation)(**parameters)
            except client_errors() as error:
                raise translate_queue_error(
                    error, self._url, f"{permission} on {self._arn}"
                ) from error


def _messages_in(attributes: Any) -> int:
    """Return how many messages a queue holds, those among them that somebody has received."""
    return sum(int(attributes.get(name, 0)) for name in _IN_A_QUEUE)


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
