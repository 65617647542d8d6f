"""Chains of digests that no published data holds are checked; each is signed with a key of ours."""

import gzip
import json
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import PublicFormat

from ctrail_pipeline.core.audit.findings import FindingKind, HourState
from ctrail_pipeline.core.exceptions import ConfigurationError
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline_tests.support.checked_digests import check, kinds, name, settings_for
from ctrail_pipeline_tests.support.signed_digests import HOUR, START, Delivery, list_public_keys

FIRST_HOUR = int(START.timestamp()) // 3600


@pytest.mark.parametrize("organization", ["", "o-abcdefghij"])
def test_a_chain_over_many_days_is_proved(tmp_path: Path, organization: str) -> None:
    delivery = Delivery(tmp_path, organization)
    delivery.hours(24 * 5)
    checked = check(delivery, tmp_path)
    assert checked.findings == []
    assert (checked.digests_sound, checked.log_files_proved) == (120, 120)
    assert list(checked.hours.values()) == [[(FIRST_HOUR, FIRST_HOUR + 119, HourState.PROVED)]]
    assert [source.organization for source in checked.hours] == [organization]


@pytest.mark.parametrize("form", [PublicFormat.PKCS1, PublicFormat.SubjectPublicKeyInfo])
def test_both_encodings_of_public_keys_are_read(tmp_path: Path, form: PublicFormat) -> None:
    delivery = Delivery(tmp_path)
    delivery.hours(2)
    keys = tmp_path / "both.json"
    keys.write_text(json.dumps(list_public_keys(form)))
    checked = check(delivery, tmp_path, public_keys=keys)
    assert (checked.findings, checked.digests_sound) == ([], 2)


def test_a_starting_digest_after_a_pause_is_no_alarm(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path)
    delivery.hours(3)
    delivery.digest(START + 10 * HOUR, [], starting=True)
    delivery.hours(3, START + 11 * HOUR)
    checked = check(delivery, tmp_path)
    assert checked.findings == []
    (hours,) = checked.hours.values()
    assert hours == [
        (FIRST_HOUR, FIRST_HOUR + 2, HourState.PROVED),
        (FIRST_HOUR + 10, FIRST_HOUR + 13, HourState.PROVED),
    ]


def test_log_files_of_a_pause_are_not_covered(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path)
    delivery.hours(3)
    delivery.log_file(START + 5 * HOUR)
    delivery.hours(1, START + 10 * HOUR, starting=True)
    (found,) = check(delivery, tmp_path).findings
    assert found.kind is FindingKind.HOUR_NOT_COVERED
    assert found.hours == (FIRST_HOUR + 5, FIRST_HOUR + 6)


def test_a_gap_between_linked_digests_is_found(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path)
    delivery.hours(2)
    after = delivery.digest(START + 4 * HOUR, [])
    checked = check(delivery, tmp_path)
    assert kinds(checked) == [(FindingKind.CHAIN_BROKEN, name(after))]
    assert checked.findings[0].hours == (FIRST_HOUR + 2, FIRST_HOUR + 4)
    (hours,) = checked.hours.values()
    assert (FIRST_HOUR + 2, FIRST_HOUR + 4, HourState.CONTRADICTED) in hours


@pytest.mark.parametrize(
    "change",
    [
        {"previousDigestHashValue": "0" * 64},
        {"previousDigestSignature": "00" * 256},
    ],
)
def test_a_link_that_differs_is_found(tmp_path: Path, change: dict[str, str]) -> None:
    """AWS's CLI compares neither of the two fields with the digest before."""
    delivery = Delivery(tmp_path)
    delivery.hours(2)
    broken = delivery.digest(START + 2 * HOUR, [], change=change)
    assert kinds(check(delivery, tmp_path)) == [(FindingKind.CHAIN_BROKEN, name(broken))]


def test_a_digest_beside_the_chain_is_found(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path)
    first, _ = delivery.hours(2)
    skipping = delivery.digest(START + 2 * HOUR, [], change={"previousDigestS3Object": first})
    assert (FindingKind.CHAIN_BROKEN, name(skipping)) in kinds(check(delivery, tmp_path))


def test_a_digest_missing_at_midnight_is_found(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path)
    digests = delivery.hours(48)
    (delivery.folder / digests[23]).unlink()
    found = kinds(check(delivery, tmp_path))
    assert (FindingKind.DIGEST_MISSING, name(digests[23])) in found
    assert {kind for kind, _ in found} == {
        FindingKind.DIGEST_MISSING,
        FindingKind.HOUR_NOT_COVERED,
    }


def test_a_redelivered_log_file_is_what_its_newest_digest_says(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path)
    log_file = delivery.log_file(START + timedelta(minutes=5), text="first")
    delivery.digest(START, [log_file])
    delivery.hours(30, START + HOUR)
    delivery.log_file(START + timedelta(minutes=5), text="again")
    delivery.digest(START + 31 * HOUR, [log_file])
    checked = check(delivery, tmp_path)
    assert checked.findings == []
    assert checked.log_files_proved == 31


def test_backfill_digests_are_a_chain_of_their_own(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path)
    late = delivery.log_file(START + timedelta(minutes=40), "B" * 16)
    delivery.hours(4)
    delivery.digest(START, [late], backfill=True)
    delivery.digest(START + 3 * HOUR, [], backfill=True)
    checked = check(delivery, tmp_path)
    assert checked.findings == []
    assert (checked.digests_sound, checked.log_files_proved) == (6, 5)
    (delivery.folder / late).unlink()
    assert kinds(check(delivery, tmp_path)) == [(FindingKind.LOG_FILE_DELETED, name(late))]


def test_two_trails_of_one_prefix_have_a_chain_each(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path)
    for hour in range(3):
        for number, trail in enumerate(("one", "other_trail")):
            at = START + hour * HOUR + timedelta(minutes=10)
            log_file = delivery.log_file(at, str(number) * 16)
            delivery.digest(START + hour * HOUR, [log_file], trail=trail)
    checked = check(delivery, tmp_path)
    assert checked.findings == []
    assert (checked.digests_sound, checked.log_files_proved) == (6, 6)


def test_a_window_judges_its_own_hours(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path)
    digests = delivery.hours(24 * 4)
    for number in (5, 40, 80):
        (delivery.folder / digests[number]).write_bytes(b"altered")
    window = Selection(start=START + 24 * HOUR, end=START + 47 * HOUR)
    checked = check(delivery, tmp_path, selection=window)
    altered = [found for found in checked.findings if found.kind is FindingKind.DIGEST_ALTERED]
    assert [found.where.rpartition("/")[2] for found in altered] == [name(digests[40])]
    (hours,) = checked.hours.values()
    assert (hours[0][0], hours[-1][1]) == (FIRST_HOUR + 24, FIRST_HOUR + 48)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no gzip",
        gzip.compress(b"{}")[:-3],
        gzip.compress(b"[" * 100_000),
        gzip.compress(b'{"digestStartTime": 1}'),
        gzip.compress(b'\xff\xfe{"a"'),
    ],
    ids=["empty", "no gzip", "cut short", "deeply nested", "a number for a time", "no UTF-8"],
)
def test_hostile_bytes_are_an_altered_digest(tmp_path: Path, body: bytes) -> None:
    delivery = Delivery(tmp_path)
    last = delivery.hours(3)[-1]
    (delivery.folder / last).write_bytes(body)
    found = kinds(check(delivery, tmp_path))
    assert (FindingKind.DIGEST_ALTERED, name(last)) in found


def test_a_trail_that_writes_digests_and_has_none_is_found(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path)
    delivery.log_file(START)
    assert check(delivery, tmp_path).findings == []
    (found,) = check(delivery, tmp_path, log_file_validation=True).findings
    assert found.kind is FindingKind.DIGEST_MISSING


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path)
    delivery.hours(1)
    wrong = tmp_path / "wrong.json"
    wrong.write_text("[1]")
    with pytest.raises(ConfigurationError, match=r"public_keys: .*wrong\.json"):
        check(delivery, tmp_path, public_keys=wrong)
    with pytest.raises(ConfigurationError, match=r"object_metadata: .*wrong\.json"):
        check(delivery, tmp_path, object_metadata=wrong)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        check(delivery, tmp_path, public_keys=tmp_path / "absent.json")


def test_a_log_file_of_another_kind_belongs_to_the_source_prefix_of_its_kind(
    tmp_path: Path,
) -> None:
    delivery = Delivery(tmp_path)
    insight = ""
    for hour in range(3):
        at = START + hour * HOUR + timedelta(minutes=25)
        keys = [delivery.log_file(at)]
        if hour == 1:
            insight = delivery.log_file(at, kind="CloudTrail-Insight")
            keys.append(insight)
        delivery.digest(START + hour * HOUR, keys)
    checked = check(delivery, tmp_path)
    assert kinds(checked) == []
    assert checked.log_files_proved == 4
    whole = [(FIRST_HOUR, FIRST_HOUR + 2, HourState.PROVED)]
    assert {prefix.kind: hours for prefix, hours in checked.hours.items()} == {
        "CloudTrail": whole,
        "CloudTrail-Insight": whole,
    }
    path = delivery.folder / insight
    path.write_bytes(gzip.compress(b'{"Records":[]}'))
    altered = check(delivery, tmp_path)
    path.unlink()
    deleted = check(delivery, tmp_path)
    assert kinds(altered) == [(FindingKind.LOG_FILE_ALTERED, path.name)]
    assert kinds(deleted) == [(FindingKind.LOG_FILE_DELETED, path.name)]
    for checked in (altered, deleted):
        assert {prefix.kind: hours for prefix, hours in checked.hours.items()} == {
            "CloudTrail": whole,
            "CloudTrail-Insight": [
                (FIRST_HOUR, FIRST_HOUR + 1, HourState.PROVED),
                (FIRST_HOUR + 1, FIRST_HOUR + 2, HourState.CONTRADICTED),
            ],
        }


def test_an_entry_of_a_kind_that_is_not_selected_is_neither_missing_nor_proved(
    tmp_path: Path,
) -> None:
    delivery = Delivery(tmp_path)
    at = START + timedelta(minutes=25)
    keys = [delivery.log_file(at), delivery.log_file(at, kind="CloudTrail-SomethingNew")]
    delivery.digest(START, keys)
    (delivery.folder / keys[1]).unlink()
    delivery.digest(START + HOUR, [])
    checked = check(delivery, tmp_path)
    assert kinds(checked) == []
    assert (checked.log_files_proved, checked.log_files_not_selected) == (1, 1)
    (hours,) = checked.hours.values()
    assert hours == [(FIRST_HOUR, FIRST_HOUR + 1, HourState.PROVED)]


def test_what_was_synced_altered_stays_a_finding_once_the_bucket_is_mended(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path)
    delivery.hours(3)
    path = next(iter(sorted((delivery.folder / delivery.root / "CloudTrail").rglob("*.gz"))))
    whole = path.read_bytes()
    path.write_bytes(gzip.compress(gzip.decompress(whole).replace(b"a", b"b", 1)))
    sync(settings_for(delivery, tmp_path))
    path.write_bytes(whole)
    assert kinds(check(delivery, tmp_path)) == [(FindingKind.LOG_FILE_ALTERED, path.name)]


def test_where_a_digest_is_missing_an_unlisted_log_file_is_no_alarm_of_its_own(
    tmp_path: Path,
) -> None:
    """Two trails deliver to one prefix: the hour is covered by the other one's digests."""
    delivery = Delivery(tmp_path)
    delivery.hours(5, trail="one")
    missing = [
        delivery.digest(
            START + number * HOUR,
            [delivery.log_file(START + number * HOUR + timedelta(minutes=41), "B" * 16)]
            if number == 2
            else [],
            trail="other",
        )
        for number in range(5)
    ][2]
    assert kinds(check(delivery, tmp_path)) == []
    (delivery.folder / missing).unlink()
    found = {kind for kind, _ in kinds(check(delivery, tmp_path))}
    assert FindingKind.DIGEST_MISSING in found
    assert FindingKind.LOG_FILE_NOT_IN_DIGEST not in found
