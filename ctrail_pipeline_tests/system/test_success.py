"""A run succeeds only if nothing of what it answers for stands open, whichever try failed at it.

Every front end says the same: exit codes, JSON, status, verify, Dagster's runs and its checks.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    DagsterInstance,
    DagsterRunStatus,
    ExecuteInProcessResult,
)

from ctrail_pipeline.core.listing.look import look
from ctrail_pipeline.core.listing.look_cursor import LookCursor
from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.core.run.progress import Progress
from ctrail_pipeline.core.run.summary import Summary
from ctrail_pipeline.reports.sentences import failure_message
from ctrail_pipeline_tests.support.dagster_runs import failure_text
from ctrail_pipeline_tests.support.failing_bucket import (
    ACCOUNT,
    BUCKET,
    FAILING,
    FailingBucket,
    failing_bucket,
    records,
)
from ctrail_pipeline_tests.support.fault_server import Faults

PARTITION = f"{ACCOUNT}/eu-west-1"


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FailingBucket]:
    with failing_bucket(tmp_path, monkeypatch) as bucket:
        yield bucket


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as instance:
        yield instance


def fail(bucket: FailingBucket) -> None:
    """Have every GET fail."""
    bucket.server.faults = FAILING


def visit_later(bucket: FailingBucket) -> None:
    """Have no visit due: the next ones are a day ahead."""
    with closing(sqlite3.connect(bucket.config.settings.state_db)) as ledger, ledger:
        ledger.execute(
            "UPDATE log_file SET next_visit = unixepoch() + 86400 WHERE next_visit IS NOT NULL"
        )


def no_failed_log_files(result: ExecuteInProcessResult) -> AssetCheckEvaluation:
    """The evaluation of the check that a run noted."""
    [check] = [
        evaluation
        for evaluation in result.get_asset_check_evaluations()
        if evaluation.check_name == "no_failed_log_files"
    ]
    return check


def find(bucket: FailingBucket) -> None:
    """Look at the bucket as the sensor does, which is behind what is covered."""
    assert look(bucket.config.settings, LookCursor(), 10).found == 1


def begin(bucket: FailingBucket) -> None:
    """Bring in a first log file, with two events."""
    bucket.put(0)
    assert bucket.ctrail("sync", "-q") == 0


# --- ctrail ---------------------------------------------------------------------------------------


def test_sync_fails_as_long_as_log_files_fail_and_succeeds_as_soon_as_the_server_heals(
    bucket: FailingBucket, capsys: pytest.CaptureFixture[str]
) -> None:
    """The third sync had nothing to do, since the next visit was five minutes away."""
    for number in range(5):
        bucket.put(number)
    fail(bucket)
    for _ in range(4):
        assert bucket.ctrail("sync", "-q", "--json") == 1
        said = json.loads(capsys.readouterr().out)
        assert (said["ok"], said["open_log_files"]) == (False, {"failed": 5})
        [reason] = said["open_reasons"]
        assert reason["log_files"] == 5
    assert bucket.ctrail("status", "--json") == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False
    bucket.server.heal()
    assert bucket.ctrail("sync", "-q", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["ok"], said["open_log_files"], said["events"]) == (True, {}, 10)
    assert bucket.ctrail("status") == 0


def test_the_last_line_counts_what_was_brought_in_and_not_what_was_tried(
    bucket: FailingBucket, capsys: pytest.CaptureFixture[str]
) -> None:
    """Log files that failed were called new, each time that they were tried."""
    bucket.put(1)
    bucket.server.faults = Faults(denied={bucket.put(2)})
    bucket.put(3, b"no JSON at all")
    for new in (1, 0):
        assert bucket.ctrail("sync", "-q") == 1
        said = capsys.readouterr().out
        assert said.startswith(f"{new} new log files, {2 * new} new events in {new} files, ")
        assert said.endswith("; log files still open: 1 damaged, 1 failed\n")


@pytest.mark.parametrize("interrupted", [False, True])
def test_an_interrupted_run_does_not_say_that_all_else_is_in(interrupted: bool) -> None:
    summary = Summary(Progress(), interrupted=interrupted)
    summary.note(Problem("main", "eu-west-1", "not listed", "no answer"))
    said = failure_message(summary)
    assert ("Everything else is brought in" in said) is not interrupted
    assert ("The run was interrupted" in said) is interrupted


def test_a_line_about_a_log_file_has_its_address_once(
    bucket: FailingBucket, capsys: pytest.CaptureFixture[str]
) -> None:
    key = bucket.put(1)
    bucket.server.faults = Faults(gone={key})
    is_about = f"s3://logs/{key}"
    lines = []
    for command in (("sync",), ("verify",), ("accept", is_about, "--reason", "deleted")):
        bucket.ctrail(*command)
        said = capsys.readouterr()
        lines += [line for line in (said.out + said.err).splitlines() if is_about in line]
    assert len(lines) >= 4
    assert {line.count(is_about) for line in lines} == {1}
    assert f"  {is_about}: is no longer there" in lines
    assert f"{is_about}: gone: is no longer there" in lines


def test_a_dry_run_names_what_stands_open(
    bucket: FailingBucket, capsys: pytest.CaptureFixture[str]
) -> None:
    """It said that there is nothing new, where a sync tries failed log files again."""
    bucket.put(1)
    fail(bucket)
    assert bucket.ctrail("sync", "-q") == 1
    visit_later(bucket)
    capsys.readouterr()
    assert bucket.ctrail("sync", "-q", "--dry-run") == 0
    said = capsys.readouterr().out
    assert ": 0 new log files, " in said
    assert said.endswith("; log files still open: 1 failed\n")
    assert bucket.ctrail("sync", "-q", "--dry-run", "--json") == 0
    [estimate] = json.loads(capsys.readouterr().out)["estimates"]
    assert estimate["open_log_files"] == {"failed": 1}


def test_the_last_line_says_that_something_could_not_be_listed(
    bucket: FailingBucket, capsys: pytest.CaptureFixture[str]
) -> None:
    """It read as if all was in, and only the exit code and the other stream told."""
    bucket.put(1)
    folder = bucket.put(2, region="us-east-1").partition("2026")[0]
    bucket.server.faults = Faults(denied={folder})
    assert bucket.ctrail("sync", "-q") == 1
    said = capsys.readouterr().out
    assert said.endswith("; problems with trails, accounts or regions: 1\n")
    bucket.server.heal()
    assert bucket.ctrail("sync", "-q") == 0
    assert "problems" not in capsys.readouterr().out


def test_a_damaged_log_file_keeps_every_sync_from_success_and_is_not_fetched_each_time(
    bucket: FailingBucket, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = bucket.put(1, records(1)[:-20])
    bucket.put(2)
    assert bucket.ctrail("sync", "-q") == 1
    visit_later(bucket)
    gets = bucket.server.counts.gets[damaged]
    capsys.readouterr()
    assert bucket.ctrail("sync", "-q") == 1
    said = capsys.readouterr()
    assert bucket.server.counts.gets[damaged] == gets
    assert f"s3://logs/{damaged}" in said.err
    assert f"ctrail accept 's3://logs/{damaged}'" in said.err
    assert "log files still open: 1 damaged" in said.out
    for command in ("status", "verify"):
        assert bucket.ctrail(command) == 1
        assert "`ctrail accept" in capsys.readouterr().out


def test_a_deleted_log_file_keeps_a_sync_from_success_until_it_is_there_again(
    bucket: FailingBucket,
) -> None:
    key = bucket.put(1)
    bucket.put(2)
    bucket.server.faults = Faults(gone={key})
    assert bucket.ctrail("sync", "-q") == 1
    bucket.server.faults = Faults(hidden={key})
    assert bucket.ctrail("sync", "-q") == 1
    bucket.server.reveal()
    assert bucket.ctrail("sync", "-q") == 0


def test_a_failed_log_file_whose_region_has_gone_is_gone_too(
    bucket: FailingBucket, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket.put(1)
    key = bucket.put(2, region="us-east-1")
    bucket.server.faults = Faults(not_s3={key})
    assert bucket.ctrail("sync", "-q") == 1
    (bucket.folder / "buckets" / BUCKET / key).unlink()
    bucket.server.heal()
    capsys.readouterr()
    assert bucket.ctrail("sync", "-q") == 1
    assert "log files still open: 1 gone" in capsys.readouterr().out
    assert bucket.ctrail("verify") == 1
    assert "`ctrail accept`" in capsys.readouterr().out


def test_a_found_log_file_that_nobody_fetched_stands_open(
    bucket: FailingBucket, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(bucket)
    bucket.put(1)
    find(bucket)
    capsys.readouterr()
    assert bucket.ctrail("status", "--json") == 1
    assert json.loads(capsys.readouterr().out)["open_log_files"] == {"found": 1}
    assert bucket.ctrail("status") == 1
    said = capsys.readouterr().out
    assert "The next sync fetches the log files that were found." in said
    assert "ctrail accept" not in said, "it takes no log file that was not tried"
    assert bucket.ctrail("sync", "-q") == 0
    assert bucket.ctrail("status", "--json") == 0


def test_another_version_that_cannot_be_read_stands_open(
    bucket: FailingBucket, capsys: pytest.CaptureFixture[str]
) -> None:
    """The row of the log file says committed, as the first version is in the output."""
    begin(bucket)
    bucket.put(0, records(1))
    find(bucket)
    capsys.readouterr()
    assert bucket.ctrail("status", "--json") == 1
    assert json.loads(capsys.readouterr().out)["open_log_files"] == {"found": 1}
    fail(bucket)
    for command in (("sync", "-q", "--json"), ("sync", "-q", "--json"), ("status", "--json")):
        assert bucket.ctrail(*command) == 1
        assert json.loads(capsys.readouterr().out)["open_log_files"] == {"failed": 1}
    bucket.server.heal()
    assert bucket.ctrail("sync", "-q", "--json") == 0
    assert json.loads(capsys.readouterr().out)["events"] > 0
    assert bucket.ctrail("status") == 0


def test_a_sync_answers_for_its_selection_only(bucket: FailingBucket) -> None:
    bucket.put(1, records(1)[:-20])
    bucket.put(9)
    bucket.put(10, region="us-east-1")
    assert bucket.ctrail("sync", "-q") == 1
    assert bucket.ctrail("sync", "-q", "--region", "us-*") == 0
    assert bucket.ctrail("sync", "-q", "--partition", PARTITION) == 1
    assert bucket.ctrail("sync", "-q", "--start", "2026-01-15T08:00") == 0
    assert bucket.ctrail("sync", "-q", "--end", "2026-01-15T01:00") == 1
    assert bucket.ctrail("sync", "-q", "--end", "2026-01-14T22:00") == 0


def test_many_log_files_that_fail_for_one_reason_are_told_once_with_their_number(
    bucket: FailingBucket, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *_ = [bucket.put(number, records(number)[:-20]) for number in range(24)]
    bucket.put(30, b"no JSON at all")
    assert bucket.ctrail("sync") == 1
    said = capsys.readouterr().err
    assert said.count(" WARNING ") == 3, "one of each reason, and the number of the first"
    assert " 24 log files damaged: " in said
    _, _, report = said.partition("25 log files stand open. ")
    assert len(report.splitlines()) == 5
    assert "24 log files are damaged: " in report
    assert f"; such as s3://logs/{first}\n" in report


def test_an_archived_log_file_fails_nothing_and_is_named(
    bucket: FailingBucket, capsys: pytest.CaptureFixture[str]
) -> None:
    key = bucket.put(1)
    bucket.put(2)
    bucket.server.faults = Faults(archived={key})
    for _ in range(2):
        assert bucket.ctrail("sync", "-q") == 0
        said = capsys.readouterr().out
        assert f"1 archived, to be restored in S3, such as s3://logs/{key}" in said
    assert bucket.ctrail("status") == 0
    assert bucket.ctrail("verify") == 0
    assert "WARNING: log file archived (1)" in capsys.readouterr().out


# --- records that all go to quarantine ------------------------------------------------------------


def test_a_log_file_none_of_whose_records_became_an_event_stands_open(
    bucket: FailingBucket, capsys: pytest.CaptureFixture[str]
) -> None:
    key = bucket.put(1, records(1, 10, eventTime="yesterday"))
    bucket.put(2, records(2, 3))
    assert bucket.ctrail("sync", "-q", "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["ok"], said["quarantined"], said["events"]) == (False, 10, 3)
    assert said["open_log_files"] == {"damaged": 1}
    assert bucket.ctrail("sync", "-q") == 1
    said_now = capsys.readouterr()
    assert "10 records in quarantine" in said_now.out
    assert f"s3://logs/{key}: damaged: none of its 10 records became an event; the first: " in (
        said_now.err
    )
    quarantine = b"".join(path.read_bytes() for path in Path("quarantine").rglob("*.jsonl"))
    assert len(quarantine.splitlines()) == 10, "a second visit adds no line"
    assert bucket.ctrail("verify") == 1


def test_single_records_in_quarantine_fail_nothing_and_verify_warns_of_them(
    bucket: FailingBucket, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = json.loads(records(1, 3))
    mixed["Records"][1]["eventTime"] = "yesterday"
    key = bucket.put(1, json.dumps(mixed).encode())
    assert bucket.ctrail("sync", "-q") == 0
    assert ", 1 records in quarantine" in capsys.readouterr().out
    assert bucket.ctrail("status") == 0
    capsys.readouterr()
    assert bucket.ctrail("verify") == 0
    said = capsys.readouterr().out
    assert "WARNING: records in quarantine (1)" in said
    assert f"s3://logs/{key}: 1 in quarantine, 2 became events" in said


def test_line_breaks_that_became_spaces_are_counted(
    bucket: FailingBucket, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket.put(1, json.dumps(json.loads(records(1, 2)), indent=1).encode())
    assert bucket.ctrail("sync", "-q", "--json") == 0
    assert json.loads(capsys.readouterr().out)["newlines_replaced"] == 2 * 5


# --- Dagster --------------------------------------------------------------------------------------


def test_a_job_fails_if_log_files_fail_in_all_its_tries(
    bucket: FailingBucket, instance: DagsterInstance
) -> None:
    """The third try came before the next visit was due, and the run ended in success."""
    key = bucket.put(1)
    bucket.put(2)
    fail(bucket)
    result = bucket.execute(instance)
    assert not result.success
    assert len([event for event in result.all_events if event.is_step_up_for_retry]) == 2
    assert f"s3://logs/{key}" in failure_text(result)
    assert result.get_asset_materialization_events() == []
    gets = bucket.server.counts.gets[key]
    assert not bucket.execute(instance).success
    assert bucket.server.counts.gets[key] == 2 * gets, "each try of each run fetches it"


def test_a_retry_takes_up_what_failed_and_the_run_succeeds(
    bucket: FailingBucket, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put(1)
    fail(bucket)
    assert not bucket.execute(instance).success
    tries = 0

    def count(_: object) -> None:
        nonlocal tries
        tries += 1
        if tries == 3:
            bucket.server.heal()

    monkeypatch.setattr("ctrail_pipeline.orchestration.sync_run.check_sample", count)
    assert bucket.execute(instance).success
    assert (tries, bucket.events()) == (3, 2)


def test_the_check_complete_says_what_is_not_in_and_fails_nothing(
    bucket: FailingBucket, instance: DagsterInstance
) -> None:
    """It said that all listed log files were in."""
    mixed = json.loads(records(1, 3))
    mixed["Records"][1]["eventTime"] = "yesterday"
    bucket.put(1, json.dumps(mixed).encode())
    archived = bucket.put(2)
    damaged = bucket.put(3, records(3)[:-20])
    bucket.server.faults = Faults(archived={archived})
    assert bucket.ctrail("sync", "-q") == 1
    assert bucket.ctrail("accept", f"s3://logs/{damaged}", "--reason", "lost") == 0
    bucket.put(4)
    [check] = bucket.execute(instance, "verify").get_asset_check_evaluations()
    assert check.passed
    assert (check.description or "").partition(", ")[2] == (
        "4 log files listed, 1 of them in; 1 archived, to be restored in S3; 1 accepted as they"
        " are; 1 came in within the last hour: the next sync fetches them;"
        " 1 with records in quarantine"
    )


def test_a_materialization_without_its_log_files_is_none(
    bucket: FailingBucket, instance: DagsterInstance
) -> None:
    bucket.put(1)
    bucket.put(2, region="us-east-1")
    fail(bucket)
    for _ in range(2):
        result = bucket.execute(instance, "trail_main", PARTITION)
        assert not result.success
        assert result.get_asset_materialization_events() == []
    bucket.server.heal()
    assert bucket.execute(instance, "trail_main", PARTITION).success


def test_a_partition_whose_damaged_log_file_is_not_due_is_not_materialized(
    bucket: FailingBucket, instance: DagsterInstance
) -> None:
    bucket.put(1, records(1)[:-20])
    assert bucket.ctrail("sync", "-q") == 1
    visit_later(bucket)
    result = bucket.execute(instance, "trail_main", PARTITION)
    assert not result.success
    assert result.get_asset_materialization_events() == []


# --- the sensor's runs ----------------------------------------------------------------------------


def test_a_run_of_the_sensor_fails_for_what_the_look_handed_over_in_all_its_tries(
    bucket: FailingBucket, instance: DagsterInstance
) -> None:
    begin(bucket)
    bucket.put(1)
    find(bucket)
    fail(bucket)
    result = bucket.execute(instance, listed=True)
    assert not result.success
    assert len([event for event in result.all_events if event.is_step_up_for_retry]) == 2


def test_a_run_of_the_sensor_fails_for_a_version_that_a_look_handed_over_in_all_its_tries(
    bucket: FailingBucket, instance: DagsterInstance
) -> None:
    """The retry had nothing to do, and the run ended in success."""
    begin(bucket)
    bucket.put(0, records(1))
    find(bucket)
    fail(bucket)
    result = bucket.execute(instance, listed=True)
    assert not result.success
    assert len([event for event in result.all_events if event.is_step_up_for_retry]) == 2
    again = instance.get_run_by_id(bucket.execute_again(instance, result.run_id))
    assert again is not None
    assert again.status is DagsterRunStatus.FAILURE
    bucket.server.heal()
    bucket.execute_again(instance, again.run_id)
    assert bucket.events() == 2 + 2


def test_an_archived_version_that_a_look_handed_over_is_named_once(
    bucket: FailingBucket, instance: DagsterInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    """The row stayed that of the version before, and each look found the archived one again."""
    begin(bucket)
    bucket.server.faults = Faults(archived={bucket.put(0, records(1))})
    find(bucket)
    assert bucket.execute(instance, listed=True).success
    assert look(bucket.config.settings, LookCursor(), 10).found == 0
    capsys.readouterr()
    assert bucket.ctrail("sync", "-q", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["open_log_files"], said["archived"]["log_files"]) == ({}, 1)
    assert bucket.ctrail("status", "--json") == 0
    assert json.loads(capsys.readouterr().out)["open_log_files"] == {}


def test_an_older_log_file_that_fails_again_turns_no_run_of_the_sensor_red(
    bucket: FailingBucket, instance: DagsterInstance
) -> None:
    begin(bucket)
    bad = bucket.put(1, records(1)[:-20])
    find(bucket)
    result = bucket.execute(instance, listed=True)
    assert not result.success, "it was handed over"
    check = no_failed_log_files(result)
    assert (check.passed, check.severity) == (False, AssetCheckSeverity.ERROR)
    assert f"ctrail accept 's3://logs/{bad}'" in (check.description or "")
    for number in (2, 3):
        bucket.put(number)
        find(bucket)
        gets = bucket.server.counts.gets[bad]
        result = bucket.execute(instance, listed=True)
        assert result.success
        assert (bucket.server.counts.gets[bad] > gets) == (number == 2), "its visit was due once"
    assert bucket.events() == 2 + 1 + 4
    assert not bucket.execute(instance).success, "a run over everything answers for it"


def test_a_run_that_is_executed_again_takes_up_what_the_first_failed_at(
    bucket: FailingBucket, instance: DagsterInstance
) -> None:
    begin(bucket)
    bucket.put(1)
    find(bucket)
    fail(bucket)
    first = bucket.execute(instance, listed=True).run_id
    visit_later(bucket)
    second = bucket.execute_again(instance, first)
    visit_later(bucket)
    bucket.server.heal()
    third = bucket.execute_again(instance, second)
    runs = [instance.get_run_by_id(run_id) for run_id in (first, second, third)]
    failed, succeeded = DagsterRunStatus.FAILURE, DagsterRunStatus.SUCCESS
    assert [run and run.status for run in runs] == [failed, failed, succeeded]
    assert bucket.events() == 2 + 2
