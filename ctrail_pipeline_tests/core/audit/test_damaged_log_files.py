"""A damaged log file that a digest lists is called damaged, with and without kept hashes."""

import gzip
import hashlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ctrail_pipeline.core.audit.findings import FindingKind, HourState
from ctrail_pipeline.core.audit.verify import verify
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queries_digests import Hashed, hashed_log_files
from ctrail_pipeline.core.ledger.rows import LogFileState
from ctrail_pipeline.core.ledger.source_prefixes import source_ids
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline_tests.support.checked_digests import check, kinds, settings_for
from ctrail_pipeline_tests.support.signed_digests import START, Delivery

FIRST_HOUR = int(START.timestamp()) // 3600


def with_trailing_bytes(body: bytes) -> bytes:
    return body + b"xyz"


def with_a_broken_checksum(body: bytes) -> bytes:
    return body[:-8] + bytes(byte ^ 255 for byte in body[-8:-4]) + body[-4:]


def with_zero_bytes(body: bytes) -> bytes:
    return body + bytes(512)


DAMAGES = [with_trailing_bytes, with_a_broken_checksum, with_zero_bytes]


def damaged(tmp_path: Path, damage: Callable[[bytes], bytes]) -> tuple[Delivery, Path]:
    """Return a delivery of four hours, and its second log file, damaged."""
    delivery = Delivery(tmp_path)
    delivery.hours(4)
    path = sorted((delivery.folder / delivery.root / "CloudTrail").rglob("*.gz"))[1]
    path.write_bytes(damage(path.read_bytes()))
    return delivery, path


def rows_of(settings: Settings) -> list[Hashed]:
    with closing(Ledger(settings.state_db)) as ledger:
        (source_id,) = source_ids(ledger).values()
        rows = hashed_log_files(ledger, source_id, FIRST_HOUR // 24)
    return [row for _, row in sorted(rows.items())]


def change(settings: Settings, what: str, value: object) -> None:
    """Change the row of the damaged log file."""
    with closing(Ledger(settings.state_db)) as ledger, ledger.transaction():
        ledger.execute(f"UPDATE log_file SET {what} WHERE state = ?", value, LogFileState.DAMAGED)


@pytest.mark.parametrize("hash_log_files", [True, False])
@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_says_damaged_and_proves_the_others(
    tmp_path: Path, damage: Callable[[bytes], bytes], hash_log_files: bool
) -> None:
    delivery, path = damaged(tmp_path, damage)
    settings = settings_for(delivery, tmp_path, hash_log_files=hash_log_files)
    sync(settings)
    report = verify(settings)
    assert dict(report.counts) == {FindingKind.LOG_FILE_DAMAGED: 1}
    assert report.findings[0].where.endswith(path.name)
    assert report.log_files_proved == 3
    assert not report.is_complete
    (prefix,) = report.prefixes
    states = {hours.start - FIRST_HOUR: hours.state for hours in prefix.hours}
    assert states[0] is HourState.PROVED
    assert states[1] is HourState.OPEN


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_hash_is_kept_of_a_damaged_log_file(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    delivery, _ = damaged(tmp_path, damage)
    settings = settings_for(delivery, tmp_path)
    sync(settings)
    rows = rows_of(settings)
    assert [row.state is LogFileState.DAMAGED for row in rows] == [False, True, False, False]
    assert [row.sha256 is None for row in rows] == [False, True, False, False]


def test_a_hash_that_an_earlier_version_kept_of_a_damaged_log_file_is_not_used(
    tmp_path: Path,
) -> None:
    delivery, path = damaged(tmp_path, with_trailing_bytes)
    settings = settings_for(delivery, tmp_path)
    sync(settings)
    signed = hashlib.sha256(gzip.decompress(path.read_bytes()[:-3])).digest()
    change(settings, "sha256 = ?", signed)
    assert signed in {row.sha256 for row in rows_of(settings)}
    report = verify(settings)
    assert dict(report.counts) == {FindingKind.LOG_FILE_DAMAGED: 1}
    assert report.log_files_proved == 3


@pytest.mark.parametrize("is_deleted", [False, True])
def test_an_accepted_log_file_is_neither_proved_nor_an_alarm(
    tmp_path: Path, is_deleted: bool
) -> None:
    delivery, path = damaged(tmp_path, with_trailing_bytes)
    settings = settings_for(delivery, tmp_path)
    sync(settings)
    change(settings, "accepted = ?", 1)
    if is_deleted:
        path.unlink()
    checked = check(delivery, tmp_path)
    assert kinds(checked) == []
    assert checked.log_files_proved == 3
    (hours,) = checked.hours.values()
    assert hours == [
        (FIRST_HOUR, FIRST_HOUR + 1, HourState.PROVED),
        (FIRST_HOUR + 2, FIRST_HOUR + 3, HourState.PROVED),
    ]


def test_a_new_version_of_an_accepted_log_file_is_judged_again(tmp_path: Path) -> None:
    delivery, path = damaged(tmp_path, with_trailing_bytes)
    settings = settings_for(delivery, tmp_path)
    sync(settings)
    change(settings, "accepted = ?", 1)
    path.write_bytes(gzip.compress(b'{"Records":[]}'))
    assert kinds(check(delivery, tmp_path)) == [(FindingKind.LOG_FILE_ALTERED, path.name)]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_log_file_that_was_never_synced_is_damaged_too(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    delivery, path = damaged(tmp_path, damage)
    checked = check(delivery, tmp_path)
    assert kinds(checked) == [(FindingKind.LOG_FILE_DAMAGED, path.name)]
    assert checked.log_files_proved == 3
    (hours,) = checked.hours.values()
    assert hours == [
        (FIRST_HOUR, FIRST_HOUR + 1, HourState.PROVED),
        (FIRST_HOUR + 2, FIRST_HOUR + 3, HourState.PROVED),
    ]


@pytest.mark.parametrize("synced", [True, False])
def test_a_log_file_that_was_altered_and_damaged_is_altered(tmp_path: Path, synced: bool) -> None:
    delivery, path = damaged(
        tmp_path, lambda body: gzip.compress(gzip.decompress(body).replace(b"a", b"b", 1)) + b"x"
    )
    settings = settings_for(delivery, tmp_path)
    if synced:
        sync(settings)
    checked = check(delivery, tmp_path)
    assert kinds(checked) == [(FindingKind.LOG_FILE_ALTERED, path.name)]
    assert checked.findings[0].detail.startswith(
        "1 trailing bytes after the gzip data; its SHA-256"
    )


def test_a_log_file_over_the_size_limit_is_not_called_altered(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path)
    delivery.hours(2)
    log_file = delivery.log_file(START.replace(hour=2), text="x" * 2_000)
    delivery.digest(START.replace(hour=2), [log_file])
    checked = check(delivery, tmp_path, max_log_file_bytes=1_000)
    assert [kind for kind, _ in kinds(checked)] == [FindingKind.LOG_FILE_DAMAGED]
    assert checked.log_files_proved == 2
