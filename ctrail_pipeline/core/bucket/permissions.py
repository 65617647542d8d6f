"""Before a run's work: who reads a trail, and whether the reader may. One GET for a readable trail.

Without this check a missing permission would show as a failure of every single log file. Discovery
tries listing; here one log file is read. A single log file may be denied for its own reasons, and
old log files may lie under a KMS key that is gone. So a few old and a few new log files are tried
before a trail counts as unreadable.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ctrail_pipeline.core.exceptions import (
    AccessDenied,
    CredentialsError,
    StoreError,
)
from ctrail_pipeline.core.keys.log_file_key import is_log_file
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.settings import Trail

from .boundary import boundary
from .credentials import Credentials, open_session
from .endpoint import endpoint_of
from .interface import Bucket

log = logging.getLogger(__name__)

_PREFIXES_TRIED: Final = 3
_DATE_FOLDERS: Final = 3


def check_access(bucket: Bucket, source_prefixes: Sequence[SourcePrefix]) -> None:
    """Read the first byte of one log file of a trail.

    Raises AccessDenied, which names the permission, if a few log files are all denied. Any other
    fault of a log file is not reported here.
    """
    check_keys(bucket, _sample_keys(bucket, source_prefixes))


def check_keys(bucket: Bucket, keys: Iterable[str]) -> None:
    """Try log files until one can be read; raises AccessDenied if all of them are denied."""
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


def readers(trails: Sequence[Trail]) -> Iterator[tuple[list[Trail], str]]:
    """Yield the trails that are read with the same credentials, with the ARN of their reader."""
    groups: dict[object, list[Trail]] = {}
    for trail in trails:
        credentials = trail.profile, trail.role_arn, trail.external_id, trail.session_name
        groups.setdefault(credentials, []).append(trail)
    for group in groups.values():
        arn = arn_of_credentials(group)
        if arn:
            yield group, arn


def arn_of_credentials(trails: Sequence[Trail]) -> str | None:
    """The ARN of the credentials of these trails; None where STS cannot be asked.

    STS is asked (GetCallerIdentity needs no permission) if a trail lies at AWS. A trail on an
    endpoint of its own lies at AWS only if an endpoint is set for STS too; a folder never does.
    """
    trails = [trail for trail in trails if not trail.bucket.startswith("file://")]
    if not trails:
        return None
    from botocore.config import Config

    config = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 1})
    try:
        with boundary(trails[0]):
            region = _region_of_sts(trails)
            if region is None:
                return None
            session = Credentials(trails[0]).session
            client = session.create_client("sts", region_name=region, config=config)
            return client.get_caller_identity().get("Arn") or None
    except StoreError as error:  # whoever opens the bucket says what is wrong
        log.debug("nobody says whose the credentials are: %s", error)
        return None


def _region_of_sts(trails: Sequence[Trail]) -> str | None:
    """The region where STS is asked; None if no trail lies at AWS."""
    session = open_session(trails[0])
    endpoints = [endpoint_of(trail, session) for trail in trails]
    at_aws = [endpoint for endpoint in endpoints if endpoint.is_at_aws]
    if not at_aws and not {"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS"} & os.environ.keys():
        return None
    return (at_aws or endpoints)[0].region


def _sample_keys(bucket: Bucket, source_prefixes: Sequence[SourcePrefix]) -> Iterator[str]:
    """Yield keys of old and of new log files of a few source prefixes.

    Old log files come first: to find one takes a single request, and mostly it is the only request.
    """
    step = max(1, len(source_prefixes) // _PREFIXES_TRIED)
    for source_prefix in source_prefixes[::step][:_PREFIXES_TRIED]:
        keys: list[str] = []
        for find_folder in (lambda _bucket, folder: folder, _newest_folder):
            try:
                page = bucket.list_page(find_folder(bucket, source_prefix.folder), "")
            except StoreError:
                continue  # the run lists the folder too, and reports the failure
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
