"""Signed digests over real log files: all agree as they are, and every tampering is named."""

import gzip
import json
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from ctrail_pipeline.core.audit.digest_result import DigestResult
from ctrail_pipeline.core.audit.explain import explainer
from ctrail_pipeline.core.audit.findings import FindingKind, HourState
from ctrail_pipeline.core.audit.sought import Sought
from ctrail_pipeline.core.audit.verify import digest_of, verify
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queries_digests import hashed_log_files
from ctrail_pipeline.core.ledger.source_prefixes import source_ids
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline_tests.support.moto_server import moto_server
from ctrail_pipeline_tests.support.real_digests import BUCKET, LOGS, ROOT, RealDigests
from ctrail_pipeline_tests.support.real_logs import needs_real_logs

pytestmark = needs_real_logs

HOUR_11 = 469_163
"""2023-07-10T11."""


@pytest.fixture
def world(tmp_path: Path) -> RealDigests:
    return RealDigests(tmp_path)


def found(checked: DigestResult) -> set[tuple[FindingKind, str]]:
    return {(finding.kind, finding.where) for finding in checked.findings}


@pytest.mark.parametrize("synced", [True, False])
def test_real_log_files_are_all_proved(world: RealDigests, synced: bool) -> None:
    if synced:
        world.sync()
    checked = world.check_digests()
    assert checked.findings == []
    assert world.problems == []
    assert (checked.digests, checked.digests_sound) == (3, 3)
    assert (checked.log_files, checked.log_files_proved) == (55, 55)
    (hours,) = checked.hours.values()
    assert hours == [(HOUR_11 + 1, HOUR_11 + 3, HourState.PROVED)]


PROVED_HOURS = (HOUR_11 + 1, HOUR_11 + 3, HourState.PROVED)


@dataclass(frozen=True)
class Figures:
    """What a check of the real digests says."""

    sound: int
    """Digests of three."""
    proved: int
    """Log files of 55."""
    agreeing: int
    findings: list[tuple[FindingKind, str]]
    hours: list[tuple[int, int, HourState]]


def figures(world: RealDigests) -> Figures:
    checked = world.check_digests()
    assert world.problems == []
    assert checked.digests == 3
    (hours,) = checked.hours.values()
    return Figures(
        checked.digests_sound,
        checked.log_files_proved,
        checked.log_files_agreeing,
        [(finding.kind, finding.severity.value) for finding in checked.findings],
        [(item.start, item.end, item.state) for item in hours],
    )


ELSEWHERE = Figures(0, 0, 55, [(FindingKind.DIGESTS_ELSEWHERE, "warning")], [])
ALL_PROVED = Figures(3, 55, 0, [], [PROVED_HOURS])


@pytest.mark.parametrize("synced", [True, False])
def test_a_renamed_folder_is_one_finding_and_its_key_proves_all(
    world: RealDigests, synced: bool
) -> None:
    world.rename("logs-of-2023", prefix="copies/july")
    if synced:
        world.sync()
    assert figures(world) == ELSEWHERE
    (told,) = world.check_digests().findings
    assert '"delivered_to": "invictus-stratus/"' in told.detail
    world.change_trail(delivered_to="invictus-stratus/")
    assert figures(world) == ALL_PROVED


@pytest.mark.thorough
def test_through_an_alias_of_s3_it_is_one_finding_and_its_key_proves_all(
    world: RealDigests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    alias = "logs-reader-4ci8k3hd7fj1x0l2m9s3qwzeuse1a--s3alias"
    with moto_server() as address:
        world.put_into_s3(address, alias)
        assert figures(world) == ELSEWHERE
        world.change_trail(delivered_to="invictus-stratus")
        assert figures(world) == ALL_PROVED


def test_a_mirror_without_metadata_proves_all_but_the_newest_digest(world: RealDigests) -> None:
    """The newest digest lists no log file: its hour is the only thing that is not proved."""
    world.change_trail(object_metadata=None)
    hours = [(HOUR_11 + 1, HOUR_11 + 2, HourState.PROVED)]
    unsigned = [(FindingKind.DIGEST_UNSIGNED, "note")]
    assert figures(world) == Figures(2, 55, 0, unsigned, hours)
    world.sync()
    report = verify(world.settings)
    assert report.is_complete
    assert (report.digests_sound, report.log_files_proved) == (2, 55)


@pytest.mark.parametrize("delivered_to", [None, "invictus-stratus"])
def test_a_renamed_mirror_without_metadata(world: RealDigests, delivered_to: str | None) -> None:
    world.rename("mirror")
    world.change_trail(object_metadata=None, delivered_to=delivered_to)
    unsigned = (FindingKind.DIGEST_UNSIGNED, "note")
    if delivered_to is None:
        assert figures(world) == Figures(0, 0, 55, [*ELSEWHERE.findings, unsigned], [])
    else:
        hours = [(HOUR_11 + 1, HOUR_11 + 2, HourState.PROVED)]
        assert figures(world) == Figures(2, 55, 0, [unsigned], hours)


def test_an_altered_log_file_is_named_through_an_alias_and_without_metadata(
    world: RealDigests,
) -> None:
    world.rename("mirror")
    world.change_trail(object_metadata=None)
    rewrite(world.log(), lambda data: data.replace(b"a", b"b", 1))
    altered = [
        finding.where
        for finding in world.check_digests().findings
        if finding.kind is FindingKind.LOG_FILE_ALTERED
    ]
    assert altered == [world.url(world.log())]


def test_what_was_hashed_while_syncing_is_not_read_again(
    world: RealDigests, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.sync()
    monkeypatch.setattr("ctrail_pipeline.core.audit.digest_hashes.decompress", None)
    assert world.check_digests().log_files_proved == 55


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))


def test_a_byte_of_a_log_file_changed(world: RealDigests) -> None:
    world.sync()
    rewrite(world.log(), lambda data: data.replace(b"a", b"b", 1))
    checked = world.check_digests()
    assert found(checked) == {(FindingKind.LOG_FILE_ALTERED, world.url(world.log()))}
    assert checked.log_files_proved == 54
    (hours,) = checked.hours.values()
    assert (HOUR_11 + 1, HOUR_11 + 2, HourState.CONTRADICTED) in hours


def test_a_byte_changed_before_the_sync(world: RealDigests) -> None:
    rewrite(world.log(), lambda data: data.replace(b"us-east-1", b"us-east-2", 1))
    world.sync()
    assert found(world.check_digests()) == {(FindingKind.LOG_FILE_ALTERED, world.url(world.log()))}


@pytest.mark.parametrize("synced", [True, False])
def test_a_log_file_deleted(world: RealDigests, synced: bool) -> None:
    if synced:
        world.sync()
    uri = world.url(world.log())
    world.log().unlink()
    checked = world.check_digests()
    assert found(checked) == {(FindingKind.LOG_FILE_DELETED, uri)}
    assert ("brought in before" in checked.findings[0].detail) == synced


def test_a_whole_day_of_log_files_deleted(world: RealDigests) -> None:
    shutil.rmtree(world.bucket / LOGS)
    assert [finding.kind for finding in world.check_digests().findings] == [
        FindingKind.LOG_FILE_DELETED
    ] * 55


def test_a_log_file_added(world: RealDigests) -> None:
    added = world.log().with_name(world.log().name[:-24] + "AAAAAAAAAAAAAAAA.json.gz")
    shutil.copy(world.log(), added)
    assert found(world.check_digests()) == {(FindingKind.LOG_FILE_NOT_IN_DIGEST, world.url(added))}


def test_a_digest_changed(world: RealDigests) -> None:
    rewrite(world.digest(1), lambda data: data.replace(b"SHA-256", b"SHA-255"[:6] + b"6 ", 1))
    rewrite(world.digest(0), lambda data: data.replace(b"7xgocspSowgK0Gto", b"8xgocspSowgK0Gto"))
    assert found(world.check_digests()) == {
        (FindingKind.DIGEST_ALTERED, world.url(world.digest(0))),
        (FindingKind.DIGEST_ALTERED, world.url(world.digest(1))),
        (FindingKind.HOUR_NOT_COVERED, f"s3://{BUCKET}/{ROOT}/CloudTrail/us-east-1/"),
    }


def test_a_digest_deleted(world: RealDigests) -> None:
    uri = world.url(world.digest(1))
    world.digest(1).unlink()
    kinds = found(world.check_digests())
    assert (FindingKind.DIGEST_MISSING, uri) in kinds
    assert {kind for kind, _ in kinds} == {FindingKind.DIGEST_MISSING, FindingKind.HOUR_NOT_COVERED}


def test_the_chain_cut(world: RealDigests) -> None:
    """Everything before the newest digest is removed: that digest still names the one before it."""
    uri = world.url(world.digest(1))
    world.digest(0).unlink()
    world.digest(0).unlink()
    assert (FindingKind.DIGEST_MISSING, uri) in found(world.check_digests())


def test_a_digest_moved(world: RealDigests) -> None:
    """A digest is copied to another hour's name, and its signature goes with it."""
    old = world.digest(2)
    new = old.with_name(old.name.replace("T142612Z", "T152612Z"))
    old.rename(new)
    path = world.given / "object-metadata.json"
    metadata = json.loads(path.read_text())
    for key in list(metadata):
        metadata[key.replace("T142612Z", "T152612Z")] = metadata[key]
    path.write_text(json.dumps(metadata))
    assert found(world.check_digests()) == {(FindingKind.DIGEST_MOVED, world.url(new))}


def test_a_signature_swapped(world: RealDigests) -> None:
    path = world.given / "object-metadata.json"
    metadata = json.loads(path.read_text())
    first, second, _ = sorted(metadata)
    metadata[first], metadata[second] = metadata[second], metadata[first]
    path.write_text(json.dumps(metadata))
    altered = {
        item for item in found(world.check_digests()) if item[0] is FindingKind.DIGEST_ALTERED
    }
    assert altered == {
        (FindingKind.DIGEST_ALTERED, world.url(world.digest(0))),
        (FindingKind.DIGEST_ALTERED, world.url(world.digest(1))),
    }


def test_a_public_key_missing(world: RealDigests) -> None:
    (world.given / "list-public-keys.json").write_text('{"PublicKeyList": []}')
    checked = world.check_digests()
    unknown = {(FindingKind.KEY_UNKNOWN, world.url(world.digest(number))) for number in range(3)}
    assert unknown <= found(checked)
    assert all(
        state is not HourState.PROVED for hours in checked.hours.values() for *_, state in hours
    )


def test_hashing_may_be_turned_off(world: RealDigests) -> None:
    world.settings = Settings(**{**vars(world.settings), "hash_log_files": False})
    world.sync()
    with closing(Ledger(world.settings.state_db)) as ledger:
        (source_id,) = source_ids(ledger).values()
        rows = hashed_log_files(ledger, source_id, HOUR_11 // 24)
    assert len(rows) == 55
    assert {row.sha256 for row in rows.values()} == {None}
    assert world.check_digests().log_files_proved == 55


def test_verify_proves_it_and_explain_says_so(world: RealDigests) -> None:
    world.sync()
    report = verify(world.settings, deep=True)
    assert report.findings == []
    assert (report.digests, report.digests_sound, report.log_files_proved) == (3, 3, 55)
    states = {state for prefix in report.prefixes for state in prefix.hours_by_state()}
    assert HourState.PROVED in states
    with explainer(world.settings, digest_of(world.settings)) as explain:
        lines = list(explain.lines(Sought()))
        verdicts = {explain.explain(line).digest for line in lines}
    assert verdicts == {"proved: a digest that holds lists it with this SHA-256"}
    altered = world.log()
    altered.write_bytes(gzip.compress(gzip.decompress(altered.read_bytes()).replace(b"a", b"b", 1)))
    report = verify(world.settings)
    assert not report.is_complete
    assert FindingKind.LOG_FILE_ALTERED in report.counts
    assert any(HourState.CONTRADICTED in prefix.hours_by_state() for prefix in report.prefixes)


@pytest.mark.parametrize("synced", [True, False])
def test_all_log_files_of_an_account_and_region_deleted(world: RealDigests, synced: bool) -> None:
    """In S3 the folder is gone, too; only digests and the ledger say that there were log files."""
    if synced:
        world.sync()
    region = world.bucket / LOGS.parents[2]
    assert region.name == "us-east-1"
    shutil.rmtree(region)
    (region.parent / "eu-north-1").mkdir()
    checked = world.check_digests()
    kinds = {finding.kind for finding in checked.findings}
    assert kinds == {FindingKind.LOG_FILE_DELETED}
    assert len(checked.findings) == 55
