"""Where CloudTrail delivered digests and log files to, and where a trail reads them. Pure.

A digest names the bucket and the keys that CloudTrail delivered to, and its signature covers these
names. A trail may read elsewhere: through an access point's alias, in a replica, in a folder of
another name. What stands before `AWSLogs/` may then differ; everything behind it is the same. The
trail's setting `delivered_to` says where CloudTrail delivered to.
"""

from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from ctrail_pipeline.core.keys.source_prefix import meant_prefix
from ctrail_pipeline.core.settings import Trail

_ROOT: Final = "AWSLogs/"


class Delivery(NamedTuple):
    """A bucket and a prefix: everything that stands before `AWSLogs/` in an address."""

    bucket: str
    prefix: str
    """The part of the keys before `AWSLogs/`, or before `/AWSLogs/`."""

    def key(self, rest: str) -> str:
        """Return the key of what lies at `rest`, which begins with `AWSLogs/`."""
        return f"{self.prefix}/{rest}" if self.prefix else rest

    def rest(self, bucket: str, key: str) -> str | None:
        """Return an address from `AWSLogs/` on; None if the address is of another delivery."""
        root = self.key(_ROOT)
        if bucket != self.bucket or not key.startswith(root):
            return None
        return key[len(root) - len(_ROOT) :]

    def named_by(self, bucket: str, key: str, read_key: str) -> "Delivery | None":
        """Return the delivery that an object names, if the object is read here at `read_key`.

        The object names `bucket` and `key`. None: behind `AWSLogs/` the two keys differ.
        """
        rest = self.rest(self.bucket, read_key)
        if rest is None or not f"/{key}".endswith(f"/{rest}"):
            return None
        return Delivery(bucket, key[: -len(rest)].removesuffix("/"))

    def setting(self, here: "Delivery") -> str:
        """Return how `delivered_to` names this delivery, in a trail that reads `here`."""
        return self.bucket if self.prefix == here.prefix else f"{self.bucket}/{self.prefix}"


def read_delivery(trail: Trail, prefix: str) -> Delivery:
    """Return where a trail reads at one of its prefixes.

    A local folder stands for the bucket that its own name names.
    """
    bucket = trail.bucket
    if bucket.startswith("file://"):
        bucket = Path(unquote(urlsplit(bucket).path)).name
    return Delivery(bucket, prefix)


def expected_deliveries(trail: Trail, here: Delivery) -> tuple[Delivery, ...]:
    """Return where CloudTrail delivers to what is read here, as the configuration says it.

    The prefix in `delivered_to` counts as it is meant, and as it is written.
    """
    if trail.delivered_to is None:
        return (here,)
    bucket, slash, prefix = trail.delivered_to.partition("/")
    prefixes = (meant_prefix(prefix), prefix) if slash else (here.prefix,)
    return tuple(Delivery(bucket, prefix) for prefix in dict.fromkeys(prefixes))
