"""Log files as large as a test wants them, one a minute."""

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ctrail_pipeline_tests.support.sync_process import put_object

NOON = datetime(2026, 1, 10, 12, tzinfo=UTC)
ACCOUNT = "111122223333"
REGION = "eu-west-1"
MB = 1024 * 1024


def fast_gzip(text: bytes) -> bytes:
    return gzip.compress(text, 1)


def put_log_file(
    bucket: Path,
    number: int,
    text: bytes,
    compress: Callable[[bytes], bytes] = fast_gzip,
) -> None:
    at = NOON + timedelta(minutes=number)
    key = (
        f"AWSLogs/{ACCOUNT}/CloudTrail/{REGION}/{at:%Y/%m/%d}/"
        f"{ACCOUNT}_CloudTrail_{REGION}_{at:%Y%m%dT%H%MZ}_{number:016}.json.gz"
    )
    put_object(bucket, key, compress(text), at)


def event(time: datetime, number: int, padding: str = "") -> str:
    return json.dumps(
        {
            "eventTime": f"{time:%Y-%m-%dT%H:%M:%SZ}",
            "eventID": str(number),
            "awsRegion": REGION,
            "recipientAccountId": ACCOUNT,
            "requestParameters": padding,
        }
    )
