"""Where no log file is found: what lies there instead, and which prefix may fit.

People copy a bucket without its `AWSLogs/`, or forget the prefix that AWS Control Tower sets. A few
folders are listed, to tell them. Not here: how log files are found (`discovery`).
"""

from collections.abc import Iterator
from typing import Final

from ctrail_pipeline.core.bucket.interface import Bucket
from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.keys.source_prefix import is_account, is_organization, logs_root
from ctrail_pipeline.core.settings import Trail
from ctrail_pipeline.core.untrusted_text import printable

_FOLDERS_TRIED: Final = 10
"""Folders of one level that are looked into."""
_NAMED: Final = 3
_ROOT: Final = "AWSLogs"


def where_log_files_may_lie(trail: Trail, bucket: Bucket) -> str:
    """What to say of a bucket in which no log file folder was found.

    At most 25 folders are listed.
    """
    check = "check the trail's `bucket` and `prefix` (the prefix is what stands before AWSLogs/)"
    try:
        found = next(_better_places(trail, bucket), None) or _holds(
            bucket, logs_root(trail.prefix), f"{trail.prefix}/" if trail.prefix else ""
        )
    except StoreError:
        return check  # the folders above the prefix need not be readable
    return f"{printable(found)}; {check}"


def _better_places(trail: Trail, bucket: Bucket) -> Iterator[str]:
    """Yield what to do, for each place where log files may lie."""
    own = f"{trail.prefix}/" if trail.prefix else ""
    for start in dict.fromkeys((own, "")):
        names = bucket.list_folder(start).folders
        if _ROOT in names and start != own:
            yield f'there is {start}{_ROOT}/, which "prefix": "{start.rstrip("/")}" names'
        likely = sorted(names, key=lambda name: (not is_organization(name), not is_account(name)))
        # No prefix names `/AWSLogs/`, at the start of the bucket.
        others = [name for name in likely if name != _ROOT and f"{start}{name}"]
        for name in others[:_FOLDERS_TRIED]:
            inside = bucket.list_folder(f"{start}{name}/").folders
            if _ROOT in inside:
                yield f'there is {start}{name}/{_ROOT}/, which "prefix": "{start}{name}" names'
            is_mirror = any(inner.startswith("CloudTrail") for inner in inside) or (
                is_organization(name) and any(map(is_account, inside))
            )
            if is_mirror:
                yield (
                    f"there is {start}{name}/{inside[0]}/, without {_ROOT}/ before it: move what"
                    f" lies there to {start}{_ROOT}/, where log files are looked for"
                )


def _holds(bucket: Bucket, root: str, own: str) -> str:
    """What lies under the root, or where the root should be."""
    for folder in dict.fromkeys((root, own)):
        names = bucket.list_folder(folder).folders
        if names:
            inside = [
                f"{name}/{inner}"
                for name in names[:_NAMED]
                for inner in _sub_folders(bucket, f"{folder}{name}/") or [""]
            ]
            return f"{folder or 'the bucket'} holds {', '.join(inside)[:300]}"
    return "it holds no folders"


def _sub_folders(bucket: Bucket, folder: str) -> list[str]:
    return [f"{name}/" for name in bucket.list_folder(folder).folders[:_NAMED]]
