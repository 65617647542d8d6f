"""Log files that arrive when a test wants them to, with events told apart by a number."""

import gzip
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ctrail_pipeline_tests.support.sync_process import put_object

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)


def event(number: int) -> dict[str, Any]:
    return {
        "eventVersion": "1.11",
        "userIdentity": {"type": "AWSService", "invokedBy": "cloudtrail.amazonaws.com"},
        "eventTime": f"{NOON + timedelta(seconds=number):%Y-%m-%dT%H:%M:%SZ}",
        "eventSource": "kms.amazonaws.com",
        "eventName": "GenerateDataKey",
        "awsRegion": "eu-west-1",
        "eventID": f"00000000-0000-4000-8000-{number:012}",
        "recipientAccountId": "111122223333",
    }


def put_log_file(
    bucket: Path,
    account: str,
    at: datetime,
    records: Sequence[dict[str, Any]],
    number: int = 0,
    arrives: datetime | None = None,
) -> str:
    """Deliver a log file and return its key. `number` tells log files of one minute apart."""
    key = (
        f"AWSLogs/{account}/CloudTrail/eu-west-1/{at:%Y/%m/%d}/"
        f"{account}_CloudTrail_eu-west-1_{at:%Y%m%dT%H%MZ}_{number:016}.json.gz"
    )
    body = gzip.compress(json.dumps({"Records": list(records)}).encode(), mtime=0)
    put_object(bucket, key, body, arrives or at + timedelta(minutes=1))
    return key
