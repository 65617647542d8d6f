"""Which trail's log file a named object is, or why it is none."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ctrail_pipeline.core.keys.log_file_key import key_of
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.queues import Notified
from ctrail_pipeline.core.listing.notifications import NewObject
from ctrail_pipeline.core.listing.notified import NamedLogFile, Sorter
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline_tests.support.sync_process import settings_in

NAME = "111122223333_CloudTrail_eu-west-1_20260115T0005Z_AbCdEfGhIjKlMnOp.json.gz"
REGION = "111122223333/CloudTrail/eu-west-1"
KEY = f"AWSLogs/{REGION}/2026/01/15/{NAME}"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    trails = [
        Trail("plain", "logs"),
        Trail("audit", "logs", "audit/all", exclude_regions=["us-*"]),
        Trail("tower", "tower", "o-abc", exclude_accounts=["4*"]),
        Trail("point", "point-abc-s3alias", "copied", delivered_to="original/first"),
        Trail("folder", (tmp_path / "mirror").as_uri()),
    ]
    return settings_in(tmp_path, trails)


def named(settings: Settings, bucket: str, key: str) -> SourcePrefix | Notified:
    sorted_ = Sorter(settings).sort(NewObject(bucket, key, 7, b"e"))
    if not isinstance(sorted_, NamedLogFile):
        return sorted_
    prefix, parts = sorted_.source_prefix, sorted_.parts
    assert key_of(prefix, parts.day, parts.name).endswith(key[key.index("AWSLogs/") :])
    return prefix


@pytest.mark.parametrize(
    ("bucket", "key", "source_prefix"),
    [
        ("logs", KEY, ("logs", "", "", "111122223333", "eu-west-1")),
        ("logs", f"audit/all/{KEY}", ("logs", "audit/all", "", "111122223333", "eu-west-1")),
        (
            "tower",
            f"o-abc/AWSLogs/o-abc/{REGION}/2026/01/15/{NAME}",
            ("tower", "o-abc", "o-abc", "111122223333", "eu-west-1"),
        ),
        (
            "logs",
            "AWSLogs/111122223333/CloudTrail-Insight/eu-west-1/2026/01/15/x.json.gz",
            ("logs", "", "", "111122223333", "eu-west-1", "CloudTrail-Insight"),
        ),
        # A message names the bucket itself, or what is read: both are this trail's.
        (
            "original",
            f"first/{KEY}",
            ("point-abc-s3alias", "copied", "", "111122223333", "eu-west-1"),
        ),
        (
            "point-abc-s3alias",
            f"copied/{KEY}",
            ("point-abc-s3alias", "copied", "", "111122223333", "eu-west-1"),
        ),
        # What a listing would take for a log file is one here, however it is called.
        ("logs", f"AWSLogs/{REGION}/renamed.gz", ("logs", "", "", "111122223333", "eu-west-1")),
        ("logs", f"AWSLogs/{REGION}/../x.gz", ("logs", "", "", "111122223333", "eu-west-1")),
    ],
)
def test_a_log_file_is_of_the_trail_whose_prefix_it_has(
    settings: Settings, bucket: str, key: str, source_prefix: tuple[str, ...]
) -> None:
    assert named(settings, bucket, key) == SourcePrefix(*source_prefix)


@pytest.mark.parametrize(
    ("bucket", "key", "why"),
    [
        ("others", KEY, Notified.OTHER_BUCKET),
        ("mirror", KEY, Notified.OTHER_BUCKET),  # a folder sends no messages
        ("original", KEY, Notified.NO_LOG_FILE),  # another prefix of the original
        ("tower", KEY, Notified.NO_LOG_FILE),
        ("logs", "elb/x.log.gz", Notified.NO_LOG_FILE),
        ("logs", "AWSLogs/", Notified.NO_LOG_FILE),
        ("logs", "AWSLogs/x.json.gz", Notified.NO_LOG_FILE),
        ("logs", "AWSLogs/o-abc", Notified.NO_LOG_FILE),
        ("logs", "AWSLogs/o-abc/x.json.gz", Notified.NO_LOG_FILE),
        ("logs", f"AWSLogs/{REGION}", Notified.NO_LOG_FILE),
        ("logs", f"AWSLogs/{REGION}/2026/01/15/x.txt", Notified.NO_LOG_FILE),
        ("logs", f"AWSLogs/../{REGION}/2026/x.json.gz", Notified.NO_LOG_FILE),
        ("logs", "AWSLogs/1/CloudTrail/../x.json.gz", Notified.NO_LOG_FILE),
        ("logs", "AWSLogs/1/elasticloadbalancing/eu-west-1/x.gz", Notified.NO_LOG_FILE),
        ("logs", KEY.replace("CloudTrail/", "CloudTrail-Digest/"), Notified.DIGEST),
        ("logs", f"audit/all/{KEY}".replace("/eu-west-1", "/us-east-1"), Notified.NOT_SELECTED),
        ("tower", f"o-abc/{KEY}".replace("/1111", "/4444"), Notified.NOT_SELECTED),
    ],
)
def test_everything_else_has_its_reason(
    settings: Settings, bucket: str, key: str, why: Notified
) -> None:
    assert named(settings, bucket, key) is why


def test_a_log_file_outside_of_the_configured_time_is_not_selected(settings: Settings) -> None:
    later = replace(settings, start=datetime(2026, 1, 16, tzinfo=UTC))
    assert named(later, "logs", KEY) is Notified.NOT_SELECTED


def test_a_trail_may_have_awslogs_as_its_prefix(tmp_path: Path) -> None:
    trails = [Trail("plain", "logs"), Trail("inner", "logs", "AWSLogs")]
    found = named(settings_in(tmp_path, trails), "logs", f"AWSLogs/{KEY}")
    assert found == SourcePrefix("logs", "AWSLogs", "", "111122223333", "eu-west-1")


def test_a_size_that_no_log_file_has_does_not_count(settings: Settings) -> None:
    forged = Sorter(settings).sort(NewObject("logs", KEY, settings.max_stored_bytes + 1))
    assert isinstance(forged, NamedLogFile)
    assert forged.size == 0
