"""Configuration, a run's config and the command line choose accounts, regions and times.

Whatever was chosen first, a later sync of everything fetches what is missing and nothing twice.
"""

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ctrail_pipeline.config.file import load_config
from ctrail_pipeline.config.times import window_start
from ctrail_pipeline.core.exceptions import ConfigurationError
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.listing.look import look
from ctrail_pipeline.core.listing.look_cursor import LookCursor
from ctrail_pipeline.core.listing.selection import Selection, is_configured, matches
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline.orchestration.jobs.sync import SyncConfig
from ctrail_pipeline.sample.bucket import (
    ORGANIZATION_BUCKET,
    PAYMENTS_BUCKET,
    PAYMENTS_PREFIX,
    write_sample,
)
from ctrail_pipeline_tests.support.command import ctrail
from ctrail_pipeline_tests.support.oracle import check_output, snapshot
from ctrail_pipeline_tests.support.sync_process import settings_in
from ctrail_pipeline_tests.support.thorough import thorough

BUCKETS = ((ORGANIZATION_BUCKET, ""), (PAYMENTS_BUCKET, PAYMENTS_PREFIX))


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("selection") / "sample"
    write_sample(root, log_files=150, days=2)
    return root


@pytest.fixture
def settings(sample: Path, tmp_path: Path) -> Settings:
    trails = [
        Trail("organization", (sample / ORGANIZATION_BUCKET).as_uri()),
        Trail("payments", (sample / PAYMENTS_BUCKET).as_uri(), PAYMENTS_PREFIX),
    ]
    return settings_in(tmp_path, trails)


def source_prefix_of(account: str, region: str) -> SourcePrefix:
    return SourcePrefix("b", "", "", account, region)


def log_files_of(sample: Path, choose: Callable[[str, str], bool]) -> int:
    """Count the log files of the accounts and regions that a rule chooses, told by their keys."""
    return sum(
        choose(path.parts[-7], path.parts[-5])
        for path in sample.rglob("*.json.gz")
        if "/CloudTrail/" in str(path)
    )


RULES: list[tuple[dict[str, Any], Callable[[str, str], bool]]] = [
    ({"accounts": ["222233334444"]}, lambda a, _: a == "222233334444"),
    ({"accounts": ["2*", "?4*"]}, lambda a, _: a[0] == "2" or a[1] == "4"),
    ({"exclude_accounts": ["4444*"]}, lambda a, _: not a.startswith("4444")),
    ({"regions": ["eu-*"]}, lambda _, r: r.startswith("eu-")),
    (
        {"regions": ["eu-*"], "exclude_regions": ["eu-central-1"]},
        lambda _, r: r == "eu-west-1",
    ),
    (
        {"accounts": ["2*", "3*"], "exclude_regions": ["us-*"]},
        lambda a, r: a[0] in "23" and not r.startswith("us-"),
    ),
]


@pytest.mark.parametrize(("chosen", "rule"), RULES)
@pytest.mark.parametrize("chosen_in", ["run", *thorough("configuration", "every trail")])
def test_what_is_chosen_is_brought_in_and_later_the_rest_and_nothing_twice(
    sample: Path,
    settings: Settings,
    chosen: dict[str, Any],
    rule: Callable[[str, str], bool],
    chosen_in: str,
) -> None:
    if chosen_in == "run":
        first_sync = sync(settings, Selection(**chosen))
    elif chosen_in == "configuration":
        first_sync = sync(replace(settings, **chosen))
    else:
        trails = tuple(replace(trail, **chosen) for trail in settings.trails)
        first_sync = sync(replace(settings, trails=trails))
    assert first_sync.ok, first_sync.problems
    part = log_files_of(sample, rule)
    whole = log_files_of(sample, lambda *_: True)
    assert 0 < part < whole
    assert first_sync.progress.log_files == part
    second = sync(settings)
    assert second.progress.log_files == whole - part
    assert sync(settings).progress.log_files == 0
    check_output(
        settings.events_dir,
        settings.quarantine_dir,
        [(sample / name, prefix) for name, prefix in BUCKETS],
    ).assert_clean()


@pytest.mark.parametrize("seed", [0, *thorough(1, 2)])
def test_any_order_of_selections_comes_to_the_same(
    sample: Path, settings: Settings, seed: int
) -> None:
    rng = Random(seed)
    for chosen, _ in rng.sample(RULES, len(RULES)):
        start = rng.choice([None, datetime(2026, 1, 15, tzinfo=UTC)])
        assert sync(settings, Selection(**chosen, start=start)).ok
    sync(settings)
    check_output(
        settings.events_dir,
        settings.quarantine_dir,
        [(sample / name, prefix) for name, prefix in BUCKETS],
    ).assert_clean()
    assert sync(settings).progress.log_files == 0


def test_configuration_trail_and_run_must_all_choose_a_source_prefix(settings: Settings) -> None:
    whole = replace(settings, regions=("eu-*",))
    trail = replace(whole.trails[0], accounts=("1*", "2*"), exclude_regions=("eu-west-1",))
    run = Selection(exclude_accounts=["1*"])
    for account, region, expected in (
        ("222222222222", "eu-central-1", True),
        ("222222222222", "eu-west-1", False),
        ("222222222222", "us-east-1", False),
        ("111111111111", "eu-central-1", False),
        ("333333333333", "eu-central-1", False),
    ):
        source_prefix = source_prefix_of(account, region)
        assert (is_configured(whole, trail, source_prefix) and run.holds(source_prefix)) is expected


def test_trails_are_chosen_by_pattern_and_by_name(settings: Settings) -> None:
    def chosen(**selection: Any) -> list[str]:
        return [trail.name for trail in Selection(**selection).narrow(settings).trails]

    assert chosen(trails=["pay*"]) == ["payments"]
    assert chosen(trails=["*"]) == ["organization", "payments"]
    assert chosen(exclude_trails=["pay*"]) == ["organization"]
    with pytest.raises(ConfigurationError, match="there is no trail 'x\\*'; configured are"):
        chosen(trails=["x*"])
    with pytest.raises(ConfigurationError, match="trails: all are excluded"):
        chosen(exclude_trails=["*"])
    odd = replace(settings, trails=(Trail("a*", "b"), Trail("ab", "c"), Trail("a[b]", "d")))
    assert [t.name for t in Selection(trails=["a*"]).narrow(odd).trails] == ["a*"]
    assert [t.name for t in Selection(trails=["a[b]"]).narrow(odd).trails] == ["a[b]"]


def test_only_stars_and_question_marks_are_special() -> None:
    assert matches("eu-*-?", "eu-west-1")
    assert not matches("[e]u-*", "eu-west-1")
    assert matches("[e]u-*", "[e]u-west-1")
    assert not matches("eu", "eu-west-1")


@pytest.mark.parametrize(
    ("chosen", "missing"),
    [
        ({"accounts": ["999999999999"]}, "999999999999"),
        ({"regions": ["eu-*", "ap-*"]}, "ap-*"),
        ({"partitions": ["*/ap-*"]}, "*/ap-*"),
    ],
)
def test_a_pattern_that_nothing_has_is_a_problem_and_the_rest_is_brought_in(
    settings: Settings, chosen: dict[str, Any], missing: str
) -> None:
    summary = sync(settings, Selection(**chosen))
    assert [(problem.where, problem.state) for problem in summary.problems] == [
        (missing, "not found")
    ]


@pytest.mark.parametrize("field", ["accounts", "exclude_accounts", "regions", "exclude_regions"])
def test_a_pattern_that_can_match_nothing_is_refused(settings: Settings, field: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"{field}: 'eu_west' can match no name"):
        sync(settings, Selection(**{field: ["eu_west"]}))  # type: ignore[arg-type]


# --- since ----------------------------------------------------------------------------------------


def test_since_goes_back_from_now_and_excludes_start() -> None:
    before = datetime.now(UTC)
    start = window_start(None, "6h")
    assert start is not None
    assert before <= start + timedelta(hours=6) <= datetime.now(UTC)
    assert window_start("2026-01-01", None) == datetime(2026, 1, 1, tzinfo=UTC)
    assert window_start(None, None) is None
    with pytest.raises(ConfigurationError, match="start and since: give one of the two"):
        window_start("2026-01-01", "6h")
    with pytest.raises(ConfigurationError, match='since: "6": it must be a length of time'):
        window_start(None, "6")


def test_since_of_the_configuration_is_reckoned_when_a_run_begins(settings: Settings) -> None:
    start = Selection().narrow(replace(settings, since_seconds=3600.0)).start
    assert start is not None
    assert timedelta(minutes=59) < datetime.now(UTC) - start < timedelta(minutes=61)
    fixed = datetime(2026, 1, 1, tzinfo=UTC)
    assert Selection(start=fixed).narrow(replace(settings, since_seconds=60.0)).start == fixed


def write_log_file(bucket: Path, moment: datetime, name: str) -> None:
    stamp = moment.strftime("%Y%m%dT%H%MZ")
    folder = bucket / f"AWSLogs/111122223333/CloudTrail/eu-west-1/{moment:%Y/%m/%d}"
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "eventTime": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
        "eventID": name,
        "eventName": name,
        "awsRegion": "eu-west-1",
        "recipientAccountId": "111122223333",
    }
    content = gzip.compress(json.dumps({"Records": [record]}).encode(), mtime=0)
    (folder / f"111122223333_CloudTrail_eu-west-1_{stamp}_{name:0>16}.json.gz").write_bytes(content)


def test_the_last_hours_first_from_a_shell_then_everything(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    for hours in (1, 5, 8, 30):
        write_log_file(tmp_path / "bucket", now - timedelta(hours=hours), f"{hours}h")
    trail = {"name": "main", "bucket": (tmp_path / "bucket").as_uri()}
    (tmp_path / "config.json").write_text(json.dumps({"trails": [trail]}))
    first_sync = ctrail(tmp_path, "sync", "--since", "6h", "--account", "1*", "--region", "eu-*")
    assert first_sync.stdout.startswith("2 new log files, 2 new events"), first_sync.stderr
    second = ctrail(tmp_path, "sync", "--since", "1d", "--exclude-region", "us-*")
    assert second.stdout.startswith("1 new log files, 1 new events"), second.stderr
    third = ctrail(tmp_path, "sync")
    assert third.stdout.startswith("1 new log files, 1 new events"), third.stderr
    wrong = ctrail(tmp_path, "sync", "--since", "1d", "--start", "2026-01-01")
    assert (wrong.returncode, wrong.stdout) == (2, "")


def test_the_configuration_and_a_run_s_config_name_the_same(tmp_path: Path) -> None:
    chosen = {
        "accounts": ["1*"],
        "exclude_accounts": ["11*"],
        "regions": ["eu-*"],
        "exclude_regions": ["eu-west-1"],
    }
    trail = {"name": "main", "bucket": "my-bucket"}
    (tmp_path / "config.json").write_text(json.dumps({"trails": [trail | chosen]} | chosen))
    settings = load_config({}, tmp_path).settings
    selection = SyncConfig(**chosen, exclude_trails=["x"], since="6h").selection()  # type: ignore[arg-type]
    for field, patterns in chosen.items():
        for holder in (settings, settings.trails[0], selection):
            assert list(getattr(holder, field)) == patterns
    assert selection.exclude_trails == ["x"]
    assert selection.start is not None


# --- what a look at the buckets found before it was left out --------------------------------------


def test_what_is_left_out_is_neither_looked_at_nor_fetched_though_it_was_found(
    sample: Path, settings: Settings
) -> None:
    assert sync(settings, Selection(end=datetime(2026, 1, 15, 6, tzinfo=UTC))).ok
    before = snapshot(settings.events_dir / "222233334444")
    found = look(settings, LookCursor(), 30)
    assert any(partition.startswith("2") for _, partition in found.waiting)
    narrow = replace(settings, exclude_accounts=("2*",))
    result = look(narrow, found.cursor, 30)
    partitions = {partition for names in result.partitions.values() for partition in names}
    assert partitions
    assert not any(partition.startswith("2") for partition in partitions)
    assert not any(partition.startswith("2") for _, partition in result.waiting)
    later = sync(narrow, Selection(listed=True))
    assert later.ok
    assert later.progress.log_files > 0
    assert snapshot(settings.events_dir / "222233334444") == before
    assert sync(settings).ok
    assert snapshot(settings.events_dir / "222233334444") > before
    check_output(
        settings.events_dir,
        settings.quarantine_dir,
        [(sample / name, prefix) for name, prefix in BUCKETS],
    ).assert_clean()
