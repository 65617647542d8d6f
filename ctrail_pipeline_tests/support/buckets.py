"""What a bucket is opened with in tests, and all that it lists."""

from pathlib import Path

from ctrail_pipeline.core.bucket.interface import Bucket
from ctrail_pipeline.core.settings import Settings, Trail


def settings_of(*trails: Trail) -> Settings:
    return Settings(
        trails, Path("events"), Path("quarantine"), Path("ledger.db"), client_timeout=10
    )


def every_key(bucket: Bucket, folder: str, after: str = "") -> list[str]:
    """All pages of a listing."""
    keys: list[str] = []
    while True:
        page = bucket.list_page(folder, after)
        keys += [listed.key for listed in page.objects]
        if page.last:
            return keys
        after = keys[-1]
