"""The UI as users meet it: a click syncs a partition, and the numbers are those on disk.

With CTRAIL_SCREENSHOTS=<folder> the tests also take the README's pictures. One instance and one
browser serve the whole module. Each test goes on where the test before stopped.
"""

import gzip
import json
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ctrail_pipeline.sample import bucket as sample
from ctrail_pipeline_tests.support.oracle import check_output, snapshot
from ctrail_pipeline_tests.support.project import PROJECT

from .browser import Page, chromium
from .dagster_dev import DagsterDev, dagster_dev, wait_for

ASSET = ["cloudtrail", "organization"]
ACCOUNT, REGION = "222233334444", "us-east-1"
PARTITION = f"{ACCOUNT}/{REGION}"
OTHER_PARTITION = "333344445555/eu-central-1"
NEW_PARTITION = "333344445555/eu-west-1"
CHECKS = (
    "can_be_listed",
    "no_conflicting_events",
    "no_failed_log_files",
    "nothing_new_in_quarantine",
    "sensor_is_running",
)
SENSOR = "new_log_files"
SECONDS_TO_END_A_RUN = 10
SCREENSHOTS = os.environ.get("CTRAIL_SCREENSHOTS")
PAGE = "/assets/" + "/".join(ASSET)
MAX_SCREENSHOT_BYTES = 300_000
DIALOG = "//*[@role='dialog']"


@pytest.fixture(scope="module")
def dev() -> Iterator[DagsterDev]:
    # The folder's name is in the pictures, and pytest's own folders contain the user's name.
    with tempfile.TemporaryDirectory(prefix="ctrail-") as folder:
        project = Path(folder)
        if SCREENSHOTS:
            project = Path(tempfile.gettempdir()) / "ctrail"
            project.symlink_to(folder, target_is_directory=True)
        try:
            with dagster_dev(project) as dev:
                yield dev
        finally:
            if SCREENSHOTS:
                project.unlink()


@pytest.fixture(scope="module")
def page(dev: DagsterDev) -> Iterator[Page]:
    with chromium(dev.url) as page:
        yield page


def test_the_code_loads(dev: DagsterDev) -> None:
    assert dev.load_error() is None


def test_a_partition_materialized_by_a_click_shows_the_numbers_on_disk(
    dev: DagsterDev, page: Page
) -> None:
    page.open(PAGE)
    page.see("Never materialized", "Events of the trail organization")
    run_id = materialize(page, PARTITION)

    page.open(f"/runs/{run_id}")
    page.see("RUN_SUCCESS", "ASSET_MATERIALIZATION", PARTITION)
    assert dev.status_of(run_id) == "SUCCESS"

    page.open(f"{PAGE}?view=partitions&partition={PARTITION}")
    page.see("Materialized (1)", run_id[:8], "events_by_hour", "lag_seconds")
    shown = {name: number_of(page, name) for name in ("events", "log_files", "bytes_out")}

    materialized_by, numbers = dev.numbers(ASSET, PARTITION)
    assert materialized_by == run_id
    assert shown == {name: numbers[name] for name in shown}
    assert numbers["dagster/partition_row_count"] == events_in_ledger(dev) == shown["events"]
    # Count all lines: some events of these log files are of another region than their key.
    lines = snapshot(dev.events)
    assert len(lines) == shown["events"]
    assert sum(len(line) + 1 for line in lines) == shown["bytes_out"]
    partition_lines = snapshot(dev.events / ACCOUNT / REGION)
    assert partition_lines <= lines
    assert len(partition_lines) > len(lines) / 2
    assert shown["log_files"] == len(
        list(dev.buckets[0][0].glob(f"**/{ACCOUNT}/CloudTrail/{REGION}/**/*.json.gz"))
    )


def test_the_checks_are_shown_and_run_by_a_click(dev: DagsterDev, page: Page) -> None:
    page.open(f"{PAGE}?view=checks")
    page.see("Checks (6)", *CHECKS, "complete")
    assert states_of_checks(page) == ["Succeeded"] * 5
    run_id = execute_all_checks(dev, page)
    page.open(f"/runs/{run_id}")
    page.see("RUN_SUCCESS", "check_organization")
    assert page.text.count("ASSET_CHECK_EVALUATION") >= 5


def test_a_run_that_is_terminated_ends_soon_and_the_next_one_does_all_of_it(
    dev: DagsterDev, page: Page, tmp_path: Path
) -> None:
    account, region = OTHER_PARTITION.split("/")
    folder = f"AWSLogs/{sample.ORGANIZATION}/{account}/CloudTrail/{region}/"
    newest = dev.s3.keys(sample.ORGANIZATION_BUCKET, folder)[-1]
    dev.s3.faults.hang.add(newest)
    page.open(PAGE)
    run_id = materialize(page, OTHER_PARTITION)
    page.open(f"/runs/{run_id}")
    wait_for(lambda: dev.s3.counts.faults["hang"] > 0, "the GET that hangs", 60)

    page.click("//button[normalize-space()='Terminate']", shown_next=DIALOG)
    page.click(f"{DIALOG}//button[normalize-space()='Terminate 1 run']")
    wait_for(lambda: dev.has_ended(run_id), "the run to end", SECONDS_TO_END_A_RUN)
    assert dev.status_of(run_id) == "CANCELED"
    page.open(f"/runs/{run_id}")
    page.see(
        "Canceled", "interrupted: what is committed stays, and the next run goes on from there"
    )

    dev.s3.heal(newest)
    dev.s3.release()
    page.open(PAGE)
    run_id = materialize(page, OTHER_PARTITION)
    wait_for(lambda: dev.has_ended(run_id), "the run to end", 60)
    assert dev.status_of(run_id) == "SUCCESS"
    bucket = tmp_path / "of both partitions"
    for partition in (PARTITION, OTHER_PARTITION):
        account, region = partition.split("/")
        folder = f"AWSLogs/{sample.ORGANIZATION}/{account}/CloudTrail/{region}"
        shutil.copytree(dev.buckets[0][0] / folder, bucket / folder)
    check_output(dev.events, dev.quarantine, [(bucket, "")]).assert_clean()


def test_all_the_rest_comes_in_by_itself(dev: DagsterDev, page: Page) -> None:
    put_record_without_time(dev)
    turn_on_sensor(page)
    wait_for(lambda: len(dev.materialized(ASSET)) == 13, "13 partitions", 90)
    wait_for(dev.is_idle, "the sensor's runs to end", 60)
    page.open("/asset-groups")
    page.see("13 partitions", "3 partitions", "100% filled")
    assert page.text.count("100% filled") == 2
    check_output(dev.events, dev.quarantine, dev.buckets).assert_clean()


def test_all_partitions_at_once_are_a_backfill_of_one_run(dev: DagsterDev, page: Page) -> None:
    page.open(PAGE)
    page.click("//button[starts-with(normalize-space(),'Materialize')]", shown_next=DIALOG)
    page.click(
        f"{DIALOG}//button[normalize-space()='All']",
        shown_next=f"{DIALOG}//*[text()='13 partitions']",
    )
    page.click(f"{DIALOG}//button[starts-with(normalize-space(),'Launch backfill')]")
    wait_for(lambda: dev.backfill() is not None, "the backfill", 30)
    wait_for(
        lambda: (dev.backfill() or ("",))[0] == "COMPLETED_SUCCESS", "the backfill to end", 120
    )
    backfill = dev.backfill()
    assert backfill is not None
    _, runs = backfill
    assert len(runs) == 1
    assert dev.status_of(runs[0]) == "SUCCESS"
    assert dev.numbers(ASSET, PARTITION)[0] == runs[0]
    assert dev.numbers(ASSET, PARTITION)[1]["events"] == 0
    check_output(dev.events, dev.quarantine, dev.buckets).assert_clean()


def test_what_came_into_quarantine_is_a_warning_of_its_check(dev: DagsterDev, page: Page) -> None:
    def states() -> list[str]:
        page.open(f"{PAGE}?view=checks&checkDetail=nothing_new_in_quarantine")
        page.see("1 new in", "why it could not become an event")
        return sorted(states_of_checks(page))

    # While a run of the sensor is at work, its checks are not evaluated.
    wait_for(lambda: states() == ["Failed"] + ["Succeeded"] * 4, "one check that failed", 60)


@pytest.mark.skipif(not SCREENSHOTS, reason="CTRAIL_SCREENSHOTS names no folder")
def test_screenshots(dev: DagsterDev, page: Page) -> None:
    folder = PROJECT / (SCREENSHOTS or "")
    folder.mkdir(exist_ok=True)

    # The daemon judges freshness every half minute. A page asks only when it is opened.
    wait_for(lambda: dev.freshness(ASSET) == "HEALTHY", "freshness", 90)
    page.open("/asset-groups")
    page.see("13 partitions", "ago")
    page.screenshot(folder / "ui-assets.png")

    page.open(f"{PAGE}?view=partitions&partition={PARTITION}")
    page.see("Materialized (13)", "lag_seconds")
    page.screenshot(folder / "ui-partition.png")

    page.open(f"{PAGE}?view=overview")
    page.see("Passing")
    page.click("//button[normalize-space()='Plots']", shown_next="//canvas")
    page.see("bytes_out", "duplicates")
    page.scroll_to("//*[text()='Metadata']/ancestor::div[2]")
    page.screenshot(folder / "ui-plots.png")

    page.open(f"{PAGE}?view=checks")
    execute_all_checks(dev, page)
    page.open(f"{PAGE}?view=checks&checkDetail=nothing_new_in_quarantine")
    page.see("could not become an event")
    page.screenshot(folder / "ui-checks.png")

    page.open(f"/locations/ctrail_pipeline/sensors/{SENSOR}")
    page.see("2 runs requested", "0 runs requested")
    page.screenshot(folder / "ui-sensor.png")

    for file in folder.glob("ui-*.png"):
        assert file.stat().st_size < MAX_SCREENSHOT_BYTES, file


def materialize(page: Page, partition: str) -> str:
    """Choose a partition in the asset's dialog and launch. Return the run's id."""
    page.click("//button[starts-with(normalize-space(),'Materialize')]", shown_next=DIALOG)
    page.click(f"{DIALOG}//*[text()='Select a partition or create one']")
    page.click(f"//*[text()='{partition}']", shown_next=f"{DIALOG}//*[text()='1 partition']")
    # The list lies above the button. A click beside the list closes it.
    page.click("//*[starts-with(text(),'Launch runs to materialize')]")
    page.click(f"{DIALOG}//button[normalize-space()='Launch 1 run']")
    href = page.find("//a[contains(@href,'/runs/') and not(contains(@href,'?'))]")
    found = re.search(r"/runs/([0-9a-f-]{36})$", href.get_attribute("href") or "")
    assert found is not None
    return found[1]


def execute_all_checks(dev: DagsterDev, page: Page) -> str:
    """Execute all checks on their page, and return the run's id."""
    before = dev.newest_run()
    page.click("//button[normalize-space()='Execute all']")
    wait_for(lambda: dev.newest_run() != before, "the run of the checks", 30)
    run_id = dev.newest_run()
    wait_for(lambda: dev.has_ended(run_id), "the checks to end", 60)
    assert dev.status_of(run_id) == "SUCCESS"
    return run_id


def turn_on_sensor(page: Page) -> None:
    """Switch the sensor on, on the sensor's page."""
    page.open(f"/locations/ctrail_pipeline/sensors/{SENSOR}")
    page.see(SENSOR, "Running")
    switch = "//input[@type='checkbox']/ancestor::label"
    page.click(switch)


def number_of(page: Page, name: str) -> int:
    """Read a number from the metadata table on the page."""
    return int(page.find(f"//tr[td[1][normalize-space()='{name}']]/td[2]").text)


def events_in_ledger(dev: DagsterDev) -> int:
    """Return the events that came from log files of the partition, by the ledger."""
    uri = f"{(dev.folder / 'state.db').as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as ledger:
        (events,) = ledger.execute(
            "SELECT sum(events) FROM source_prefix WHERE account = ? AND region = ?",
            (ACCOUNT, REGION),
        ).fetchone()
    assert isinstance(events, int)
    return events


def put_record_without_time(dev: DagsterDev) -> None:
    """Put a log file of an hour ago: an event, and a record without a time that cannot be one.

    The log file settles, as one of its records became an event. The partition is new to the
    sensor.
    """
    at = datetime.now(UTC) - timedelta(hours=1)
    account, region = NEW_PARTITION.split("/")
    folder = f"AWSLogs/{sample.ORGANIZATION}/{account}/CloudTrail/{region}/{at:%Y/%m/%d}"
    name = f"{account}_CloudTrail_{region}_{at:%Y%m%dT%H%MZ}_WithoutEventTime.json.gz"
    file = dev.buckets[0][0] / folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    event = {
        "eventTime": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "eventName": "ListBuckets",
        "eventID": "5f0d31a2-0b0e-4c5e-9d1c-2f6a4e1f7b90",
        "awsRegion": region,
        "recipientAccountId": account,
    }
    records = [event, {"eventName": "WithoutEventTime"}]
    file.write_bytes(gzip.compress(json.dumps({"Records": records}).encode()))


def states_of_checks(page: Page) -> list[str]:
    """The state below each check's name in the list of checks."""
    lines = page.text.splitlines()
    return [lines[lines.index(name) + 1] for name in CHECKS]
