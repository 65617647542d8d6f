"""Before the work: who reads a trail, and whether it may. One sentence a trail, one GET if it may.

Without this, a missing permission would show as a failure of every single log file. Listing is
tried by discovery; here one log file is read. One that is denied by itself does not speak for the
others, nor do old ones under a key that is gone for today's, so a few of each are tried before a
trail counts as unreadable.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ctrail_pipeline.core.exceptions import AccessDenied, CredentialsError, StoreError
from ctrail_pipeline.core.keys.log_file_key import is_log_file
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.settings import Trail

from .credentials import open_session
from .endpoint import endpoint_of_environment
from .interface import Bucket

log = logging.getLogger(__name__)

_PLACES_TRIED: Final = 3
_DATE_FOLDERS: Final = 3


def check_access(bucket: Bucket, places: Sequence[SourcePrefix]) -> None:
    """Read one log file of a trail (the first byte of it, that is).

    Raises AccessDenied, naming the permission, if a few log files are all denied. Anything else
    that may be wrong with a log file is not this function's to report.
    """
    check_keys(bucket, _some_keys(bucket, places))


def check_keys(bucket: Bucket, keys: Iterable[str]) -> None:
    """Read some log files until one can be read; raises AccessDenied if all of them are denied."""
    denied = None
    for key in keys:
        try:
            bucket.probe(key)
        except AccessDenied as error:
            denied = error
        except CredentialsError:
            raise
        except StoreError:
            return
        else:
            return
    if denied is not None:
        raise denied


def who_reads(trails: Sequence[Trail]) -> Iterator[tuple[list[Trail], str]]:
    """The ARN that AWS knows the reader by, for trails that are read with the same credentials."""
    groups: dict[object, list[Trail]] = {}
    for trail in trails:
        means = trail.profile, trail.role_arn, trail.external_id, trail.session_name
        groups.setdefault(means, []).append(trail)
    for group in groups.values():
        who = identity_of_credentials(group)
        if who:
            yield group, who


def identity_of_credentials(trails: Sequence[Trail]) -> str | None:
    """The ARN that AWS knows the credentials of these trails by; None where nobody can be asked.

    Asks STS (GetCallerIdentity needs no permission), unless all trails lie on endpoints of their
    own or in folders, and STS has no endpoint set for it.
    """
    if not any(_is_at_aws(trail) for trail in trails):
        return None
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    config = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 1})
    try:
        session = open_session(trails[0])
        client = session.client(
            "sts", region_name=session.region_name or "us-east-1", config=config
        )
        return str(client.get_caller_identity()["Arn"])
    except (BotoCoreError, ClientError, ResponseParserError, ValueError) as error:
        log.debug("STS does not say whose the credentials are: %s", type(error).__name__)
        return None


def _is_at_aws(trail: Trail) -> bool:
    if trail.bucket.startswith("file://"):
        return False
    sts_is_set = "AWS_ENDPOINT_URL" in os.environ or "AWS_ENDPOINT_URL_STS" in os.environ
    return sts_is_set or not (trail.endpoint_url or endpoint_of_environment())


def _some_keys(bucket: Bucket, places: Sequence[SourcePrefix]) -> Iterator[str]:
    """Old and new log files of some source partitions, as different ones as there are.

    Old ones first: to find one takes one request, and mostly it is the only one.
    """
    step = max(1, len(places) // _PLACES_TRIED)
    for place in places[::step][:_PLACES_TRIED]:
        keys: list[str] = []
        for find_folder in (lambda _bucket, folder: folder, _newest_folder):
            try:
                page = bucket.list_page(find_folder(bucket, place.folder), "")
            except StoreError:
                continue  # listing it is the run's work, and reported there
            found = [listed.key for listed in page.objects if is_log_file(listed.key)]
            new = [key for key in (*found[-1:], *found[:1]) if key not in keys]
            keys += new
            yield from new


def _newest_folder(bucket: Bucket, folder: str) -> str:
    """The folder of the newest day."""
    for _ in range(_DATE_FOLDERS):
        dated = [name for name in bucket.list_folder(folder).folders if name.isdigit()]
        if not dated:
            break
        folder += max(dated) + "/"
    return folder
