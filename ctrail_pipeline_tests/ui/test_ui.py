"""The UI as its users meet it: a click brings a partition in, and the numbers are those on disk.

With CTRAIL_SCREENSHOTS=<folder> it also takes the pictures of the README. One instance and one
browser serve the whole module, whose tests go on where the one before stopped.
"""

import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ctrail_pipeline import sample
from ctrail_pipeline_tests.oracle import check_output, snapshot

from .browser import Page, chromium
from .dagster_dev import ROOT, DagsterDev, dagster_dev, wait_for

ASSET = ["cloudtrail", "organization"]
ACCOUNT, REGION = "222233334444", "us-east-1"
PARTITION = f"{ACCOUNT}/{REGION}"
SENSOR = "new_log_files"
SCREENSHOTS = os.environ.get("CTRAIL_SCREENSHOTS")
MAX_SCREENSHOT_BYTES = 300_000
DIALOG = "//*[@role='dialog']"


@pytest.fixture(scope="module")
def dev() -> Iterator[DagsterDev]:
    # The folder's name is in the pictures: pytest's own has the user's in it.
    with tempfile.TemporaryDirectory(prefix="ctrail-") as folder, dagster_dev(Path(folder)) as dev:
        yield dev


@pytest.fixture(scope="module")
def page(dev: DagsterDev) -> Iterator[Page]:
    with chromium(dev.url) as page:
        yield page


def test_the_code_loads(dev: DagsterDev) -> None:
    assert dev.load_error() is None


def test_a_partition_materialized_by_a_click_shows_the_numbers_on_disk(
    dev: DagsterDev, page: Page
) -> None:
    page.open("/assets/" + "/".join(ASSET))
    page.see("Never materialized", "Events of the trail organization")
    run_id = materialize(page, PARTITION)

    page.open(f"/runs/{run_id}")
    page.see("RUN_SUCCESS", "ASSET_MATERIALIZATION", PARTITION)
    assert dev.status_of(run_id) == "SUCCESS"

    page.open(f"/assets/{'/'.join(ASSET)}?view=partitions&partition={PARTITION}")
    page.see("Materialized (1)", run_id[:8], "events_by_hour", "lag_seconds")
    shown = {name: number_of(page, name) for name in ("events", "log_files", "bytes_out")}

    run_of_it, numbers = dev.numbers(ASSET, PARTITION)
    assert run_of_it == run_id
    assert shown == {name: numbers[name] for name in shown}
    assert numbers["dagster/partition_row_count"] == events_in_ledger(dev) == shown["events"]
    # All lines there are: some events of these log files are of another region than their key.
    lines = snapshot(dev.events)
    assert len(lines) == shown["events"]
    assert sum(len(line) + 1 for line in lines) == shown["bytes_out"]
    own = snapshot(dev.events / ACCOUNT / REGION)
    assert own <= lines
    assert len(own) > len(lines) / 2
    buckets = sample_of(dev)
    assert shown["log_files"] == len(
        list(buckets[0][0].glob(f"**/{ACCOUNT}/CloudTrail/{REGION}/**/*.json.gz"))
    )


def test_all_the_rest_comes_in_by_itself(dev: DagsterDev, page: Page) -> None:
    if SENSOR in dev.sensors():
        turn_on_sensor(page)
    else:
        run_id = dev.launch("sync")
        wait_for(lambda: dev.status_of(run_id) in {"SUCCESS", "FAILURE"}, "the sync", 60)
        assert dev.status_of(run_id) == "SUCCESS"

    wait_for(lambda: len(dev.materialized(ASSET)) == 13, "13 partitions", 90)
    page.open("/asset-groups")
    page.see("13 partitions", "3 partitions", "100% filled")
    assert page.text.count("100% filled") == 2
    check_output(dev.events, dev.folder / "quarantine", sample_of(dev)).assert_clean()


@pytest.mark.skipif(not SCREENSHOTS, reason="CTRAIL_SCREENSHOTS names no folder")
def test_screenshots(dev: DagsterDev, page: Page) -> None:
    folder = ROOT / (SCREENSHOTS or "")
    folder.mkdir(exist_ok=True)
    asset = "/assets/" + "/".join(ASSET)

    page.open("/asset-groups")
    page.see("13 partitions", "ago")
    page.screenshot(folder / "ui-assets.png")

    page.open(f"{asset}?view=partitions&partition={PARTITION}")
    page.see("Materialized (13)", "lag_seconds")
    page.screenshot(folder / "ui-partition.png")

    # The daemon judges freshness every half minute; the page asks only when it is opened.
    wait_for(lambda: dev.freshness(ASSET) == "HEALTHY", "freshness", 90)
    page.open(f"{asset}?view=overview")
    page.see("Passing")
    page.click("//button[normalize-space()='Plots']", then="//canvas")
    page.see("bytes_out", "duplicates")
    page.scroll_to("//*[text()='Metadata']/ancestor::div[2]")
    page.screenshot(folder / "ui-plots.png")

    if SENSOR in dev.sensors():
        page.open(f"/locations/ctrail_pipeline/sensors/{SENSOR}")
        page.see("1 run requested")
        page.screenshot(folder / "ui-sensor.png")

    for file in folder.glob("ui-*.png"):
        assert file.stat().st_size < MAX_SCREENSHOT_BYTES, file


def materialize(page: Page, partition: str) -> str:
    """Choose a partition in the asset's dialog and launch; returns the run's id."""
    page.click("//button[starts-with(normalize-space(),'Materialize')]", then=DIALOG)
    page.click(f"{DIALOG}//*[text()='Select a partition or create one']")
    page.click(f"//*[text()='{partition}']", then=f"{DIALOG}//*[text()='1 partition']")
    # A click beside the list closes it; it lies above the button.
    page.click("//*[starts-with(text(),'Launch runs to materialize')]")
    page.click(f"{DIALOG}//button[normalize-space()='Launch 1 run']")
    href = page.find("//a[contains(@href,'/runs/') and not(contains(@href,'?'))]")
    found = re.search(r"/runs/([0-9a-f-]{36})$", href.get_attribute("href") or "")
    assert found is not None
    return found[1]


def turn_on_sensor(page: Page) -> None:
    """Switch the sensor on, on its own page."""
    page.open(f"/locations/ctrail_pipeline/sensors/{SENSOR}")
    page.see(SENSOR, "Running")
    switch = "//input[@type='checkbox']/ancestor::label"
    page.click(switch)


def number_of(page: Page, name: str) -> int:
    """A number of the metadata table that is on the page."""
    return int(page.find(f"//tr[td[1][normalize-space()='{name}']]/td[2]").text)


def events_in_ledger(dev: DagsterDev) -> int:
    """Events that came from log files of the partition, by the ledger."""
    uri = f"{(dev.folder / 'state.db').as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as ledger:
        (events,) = ledger.execute(
            "SELECT sum(events) FROM source_partition WHERE account = ? AND region = ?",
            (ACCOUNT, REGION),
        ).fetchone()
    assert isinstance(events, int)
    return events


def sample_of(dev: DagsterDev) -> list[tuple[Path, str]]:
    return [
        (dev.folder / "sample" / sample.ORGANIZATION_BUCKET, ""),
        (dev.folder / "sample" / sample.PAYMENTS_BUCKET, sample.PAYMENTS_PREFIX),
    ]
