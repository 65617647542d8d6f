"""Checking the digests of a made-up bucket: settings for it, and the findings in short."""

from pathlib import Path
from typing import Any

from ctrail_pipeline.core.audit.check_digests import check_digests
from ctrail_pipeline.core.audit.digest_result import DigestResult
from ctrail_pipeline.core.audit.findings import FindingKind
from ctrail_pipeline.core.listing.found_prefixes import find_prefixes
from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline_tests.support.signed_digests import Delivery


def settings_for(
    delivery: Delivery,
    folder: Path,
    *,
    hash_log_files: bool = True,
    max_log_file_bytes: int = 2**28,
    **trail: Any,
) -> Settings:
    """Return settings for one trail that reads a delivery; `trail` are keys of the trail."""
    files: dict[str, Any] = delivery.files(folder) | trail
    return Settings(
        (Trail("main", delivery.folder.as_uri(), **files),),
        folder / "events",
        folder / "quarantine",
        folder / "state.db",
        process_workers=1,
        hash_log_files=hash_log_files,
        max_log_file_bytes=max_log_file_bytes,
    )


def check(
    delivery: Delivery,
    folder: Path,
    *,
    selection: Selection | None = None,
    problems: list[Problem] | None = None,
    **trail: Any,
) -> DigestResult:
    """Check digests; a problem fails the test unless there is a list to take it."""
    settings = settings_for(delivery, folder, **trail)
    chosen = selection or Selection()
    noted: list[Problem] = [] if problems is None else problems
    found_prefixes = find_prefixes(settings, chosen, noted.append, may_get=False)
    result = check_digests(settings, chosen, found_prefixes.selected, report=noted.append)
    assert problems is not None or noted == []
    return result


def kinds(checked: DigestResult) -> list[tuple[FindingKind, str]]:
    """Return the kind of each finding, with the name of the object that it is about."""
    return sorted(
        ((found.kind, found.where.rpartition("/")[2]) for found in checked.findings), key=str
    )


def name(key: str) -> str:
    """Return the last part of a key."""
    return key.rpartition("/")[2]
