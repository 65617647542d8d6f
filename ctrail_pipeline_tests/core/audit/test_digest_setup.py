"""Digests that are read elsewhere than CloudTrail delivered them to, or without their metadata.

An alias, a replica and a folder of another name share one fault: one finding names it, with the key
that mends it. What somebody altered is named all the same.
"""

import gzip
from pathlib import Path
from typing import Any

import pytest

from ctrail_pipeline.core.audit.findings import FindingKind, HourState, Severity
from ctrail_pipeline.core.audit.verify import verify
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline_tests.support.checked_digests import check, kinds, name, settings_for
from ctrail_pipeline_tests.support.fault_server import key_path
from ctrail_pipeline_tests.support.signed_digests import HOUR, START, Delivery

FIRST_HOUR = int(START.timestamp()) // 3600


def read_as(delivery: Delivery, folder: str) -> None:
    """Read a delivery from a folder of another name, below which the prefix may be another."""
    target = delivery.folder.parent / folder
    target.parent.mkdir(parents=True, exist_ok=True)
    delivery.folder = delivery.folder.rename(target)


def rewrite(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"a", b"b", 1)))


def log_of(delivery: Delivery, number: int) -> Path:
    return sorted((delivery.folder / delivery.root / "CloudTrail").rglob("*.gz"))[number]


def digest_of(delivery: Delivery, number: int) -> Path:
    return sorted((delivery.folder / delivery.root / "CloudTrail-Digest").rglob("*.gz"))[number]


# --- read elsewhere -------------------------------------------------------------------------------


def test_one_finding_says_what_all_digests_share_and_how_to_mend_it(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path)
    digests = delivery.hours(30)
    read_as(delivery, "logs-alias")
    checked = check(delivery, tmp_path)
    assert kinds(checked) == [(FindingKind.DIGESTS_ELSEWHERE, name(digests[-1]))]
    (finding,) = checked.findings
    assert '"delivered_to": "logs" in trail \'main\'' in finding.detail
    assert finding.detail.startswith("30 digests, such as this one, say")
    assert finding.severity is Severity.WARNING
    assert (checked.digests, checked.digests_sound) == (30, 0)
    assert (checked.log_files_proved, checked.log_files_agreeing) == (0, 30)
    assert list(checked.hours.values()) == [[]]


def test_what_was_altered_is_named_all_the_same(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path)
    delivery.hours(6)
    read_as(delivery, "logs-alias")
    altered, deleted, digest = log_of(delivery, 1), log_of(delivery, 3), digest_of(delivery, 4)
    rewrite(altered)
    deleted.unlink()
    rewrite(digest)
    found = set(kinds(check(delivery, tmp_path)))
    assert {
        (FindingKind.LOG_FILE_ALTERED, altered.name),
        (FindingKind.LOG_FILE_DELETED, deleted.name),
        (FindingKind.DIGEST_ALTERED, digest.name),
    } <= found
    assert FindingKind.DIGEST_MOVED not in {kind for kind, _ in found}


@pytest.mark.parametrize(
    ("folder", "prefix", "delivered_to"),
    [
        ("logs-alias", "", "logs"),
        ("replica", "copies/of-logs", "logs/"),
    ],
)
def test_with_the_key_all_is_proved_as_usual(
    tmp_path: Path, folder: str, prefix: str, delivered_to: str
) -> None:
    delivery = Delivery(tmp_path)
    delivery.hours(30)
    read_as(delivery, f"{folder}/{prefix}".rstrip("/"))
    delivery.folder = tmp_path / folder
    (told,) = check(delivery, tmp_path, prefix=prefix).findings
    assert f'"delivered_to": "{delivered_to}"' in told.detail
    trail: dict[str, Any] = {"prefix": prefix, "delivered_to": delivered_to}
    checked = check(delivery, tmp_path, **trail)
    assert checked.findings == []
    assert (checked.digests_sound, checked.log_files_proved) == (30, 30)
    assert list(checked.hours.values()) == [[(FIRST_HOUR, FIRST_HOUR + 29, HourState.PROVED)]]
    delivery.folder /= prefix
    altered = log_of(delivery, 3)
    delivery.folder = tmp_path / folder
    rewrite(altered)
    assert kinds(check(delivery, tmp_path, **trail)) == [
        (FindingKind.LOG_FILE_ALTERED, altered.name)
    ]


def test_another_prefix_than_the_trails_is_named_with_the_bucket(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path, prefix="team/audit")
    delivery.hours(3)
    read_as(delivery, "copy")
    assert check(delivery, tmp_path, prefix="team/audit", delivered_to="logs").findings == []
    (delivery.folder / "team" / "audit" / "AWSLogs").rename(delivery.folder / "AWSLogs")
    (told,) = check(delivery, tmp_path).findings
    assert '"delivered_to": "logs/team/audit"' in told.detail
    assert check(delivery, tmp_path, delivered_to="logs/team/audit").findings == []


@pytest.mark.parametrize("written", ["foo/", "/foo", "AWSLogs", "foo/AWSLogs/"])
def test_the_key_names_a_prefix_that_a_folder_cannot_hold(tmp_path: Path, written: str) -> None:
    delivery = Delivery(tmp_path, prefix=written)
    delivery.hours(3)
    key_path(delivery.folder, delivery.root.partition("AWSLogs/1")[0] + "AWSLogs").rename(
        tmp_path / "AWSLogs"
    )
    (tmp_path / "copy").mkdir()
    delivery.folder = (tmp_path / "AWSLogs").rename(tmp_path / "copy" / "AWSLogs").parent
    (told,) = check(delivery, tmp_path).findings
    assert f'"delivered_to": "logs/{written}"' in told.detail
    assert f"delivered them to s3://logs/{written};" in told.detail
    checked = check(delivery, tmp_path, delivered_to=f"logs/{written}")
    assert (checked.findings, checked.log_files_proved) == ([], 3)


@pytest.mark.parametrize("delivered_to", ["logs/foo/", "logs//foo/AWSLogs"])
def test_the_key_means_what_people_copy_into_a_prefix(tmp_path: Path, delivered_to: str) -> None:
    delivery = Delivery(tmp_path, prefix="foo")
    delivery.hours(3)
    assert check(delivery, tmp_path, prefix="foo", delivered_to=delivered_to).findings == []


def test_one_chain_is_not_of_both_prefixes_that_a_key_may_mean(tmp_path: Path) -> None:
    delivery, other = Delivery(tmp_path, prefix="foo"), Delivery(tmp_path, prefix="foo/")
    delivery.hours(2)
    other.last, other.metadata = delivery.last, delivery.metadata  # one chain
    moved = other.digest(START + 2 * HOUR, [])
    path = delivery.folder / moved
    path.parent.mkdir(parents=True, exist_ok=True)
    key_path(delivery.folder, moved).rename(path)
    delivery.hours(2, START + 3 * HOUR)
    checked = check(delivery, tmp_path, prefix="foo", delivered_to="logs/foo/")
    assert (FindingKind.DIGEST_MOVED, name(moved)) in kinds(checked)
    assert checked.digests_sound == 4


def test_a_wrong_key_proves_nothing(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path)
    delivery.hours(3)
    (told,) = check(delivery, tmp_path, delivered_to="other").findings
    assert told.kind is FindingKind.DIGESTS_ELSEWHERE
    assert '"delivered_to": "logs"' in told.detail


def test_a_digest_of_another_bucket_among_those_in_place_was_moved(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path)
    delivery.hours(2)
    foreign = delivery.digest(START + 2 * HOUR, [], bucket="other")
    delivery.hours(2, START + 3 * HOUR)
    checked = check(delivery, tmp_path)
    assert kinds(checked) == [(FindingKind.DIGEST_MOVED, name(foreign))]
    (hours,) = checked.hours.values()
    assert (FIRST_HOUR + 2, FIRST_HOUR + 3, HourState.CONTRADICTED) in hours


def test_verify_fails_until_the_key_is_there(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path)
    delivery.hours(3)
    read_as(delivery, "logs-alias")
    settings = settings_for(delivery, tmp_path)
    sync(settings)
    report = verify(settings)
    assert not report.is_complete
    assert dict(report.counts) == {FindingKind.DIGESTS_ELSEWHERE: 1}
    assert (report.log_files_proved, report.log_files_agreeing) == (0, 3)
    report = verify(settings_for(delivery, tmp_path, delivered_to="logs"))
    assert report.is_complete
    assert (report.log_files_proved, report.log_files_agreeing) == (3, 0)


def test_an_entry_for_another_bucket_leaves_its_hour_unproved(tmp_path: Path) -> None:
    """The trail was given another bucket meanwhile: log files of the old one are not read."""
    delivery = Delivery(tmp_path)
    delivery.hours(2)
    entry = delivery.entry(delivery.log_file(START + 2 * HOUR)) | {"s3Bucket": "before"}
    log_of(delivery, 2).unlink()
    delivery.digest(START + 2 * HOUR, [], change={"logFiles": [entry]})
    delivery.hours(2, START + 3 * HOUR)
    checked = check(delivery, tmp_path)
    assert checked.findings == []
    (hours,) = checked.hours.values()
    assert hours == [
        (FIRST_HOUR, FIRST_HOUR + 1, HourState.PROVED),
        (FIRST_HOUR + 3, FIRST_HOUR + 4, HourState.PROVED),
    ]


# --- without metadata -----------------------------------------------------------------------------


def test_without_metadata_only_the_newest_digest_is_not_proved(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path)
    digests = delivery.hours(30)
    delivery.metadata.clear()
    checked = check(delivery, tmp_path)
    assert kinds(checked) == [(FindingKind.DIGEST_UNSIGNED, name(digests[-1]))]
    assert checked.findings[0].severity is Severity.NOTE
    assert (checked.digests, checked.digests_sound) == (30, 29)
    assert (checked.log_files_proved, checked.log_files_agreeing) == (29, 1)
    assert list(checked.hours.values()) == [[(FIRST_HOUR, FIRST_HOUR + 28, HourState.PROVED)]]


def test_a_note_lets_verify_succeed(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path)
    delivery.hours(3)
    delivery.metadata.clear()
    settings = settings_for(delivery, tmp_path)
    sync(settings)
    report = verify(settings)
    assert report.is_complete
    assert dict(report.counts) == {FindingKind.DIGEST_UNSIGNED: 1}
    assert (report.log_files_proved, report.log_files_agreeing) == (2, 1)


def test_each_chain_has_a_newest_digest_and_one_note_counts_them(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path)
    for trail in ("one", "two"):
        delivery.hours(3, suffix=trail[0].upper() * 16, trail=trail)
    delivery.metadata.clear()
    checked = check(delivery, tmp_path)
    (note,) = checked.findings
    assert note.detail.startswith("2 digests, such as this one, have no signature")
    assert (checked.digests, checked.digests_sound) == (6, 4)


def test_without_metadata_an_altered_digest_is_named_by_the_next_one(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path)
    delivery.hours(6)
    delivery.metadata.clear()
    altered = digest_of(delivery, 2)
    rewrite(altered)
    found = kinds(check(delivery, tmp_path))
    assert (FindingKind.DIGEST_ALTERED, altered.name) in found


def test_without_metadata_a_log_file_of_the_newest_digest_is_compared(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path)
    digests = delivery.hours(3)
    delivery.metadata.clear()
    altered = log_of(delivery, 2)
    rewrite(altered)
    checked = check(delivery, tmp_path)
    assert kinds(checked) == [
        (FindingKind.DIGEST_UNSIGNED, name(digests[-1])),
        (FindingKind.LOG_FILE_ALTERED, altered.name),
    ]
    assert checked.findings[0].detail.endswith("in the digest, which is not proved itself")


@pytest.mark.parametrize("number", [2, 5])
def test_one_digest_without_a_signature_among_signed_ones(tmp_path: Path, number: int) -> None:
    """The next digest proves it; the newest one has none, and somebody wrote it anew."""
    delivery = Delivery(tmp_path)
    digests = delivery.hours(6)
    del delivery.metadata[f"logs/{digests[number]}"]
    checked = check(delivery, tmp_path)
    expected = [(FindingKind.DIGEST_ALTERED, name(digests[5]))] if number == 5 else []
    assert kinds(checked) == expected
    assert checked.digests_sound == 6 - len(expected)


def test_elsewhere_and_without_metadata_at_once(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path)
    digests = delivery.hours(4)
    delivery.metadata.clear()
    read_as(delivery, "mirror")
    newest = name(digests[-1])
    assert kinds(check(delivery, tmp_path)) == [
        (FindingKind.DIGESTS_ELSEWHERE, newest),
        (FindingKind.DIGEST_UNSIGNED, newest),
    ]
    checked = check(delivery, tmp_path, delivered_to="logs")
    assert kinds(checked) == [(FindingKind.DIGEST_UNSIGNED, newest)]
    assert (checked.log_files_proved, checked.log_files_agreeing) == (3, 1)
