"""A bucket of real log files with the digests that AWS signed for them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3

from ctrail_pipeline.core.audit.check_digests import check_digests
from ctrail_pipeline.core.audit.digest_result import DigestResult
from ctrail_pipeline.core.listing.found_prefixes import find_prefixes
from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline_tests.support.real_logs import REAL_LOGS

BUCKET = "invictus-stratus"
ROOT = Path("AWSLogs/218007301253")
DIGESTS = ROOT / "CloudTrail-Digest/us-east-1/2023/07/10"
LOGS = ROOT / "CloudTrail/us-east-1/2023/07/10"


class RealDigests:
    """A copy of the bucket, and of the files with its digests' signatures and keys."""

    def __init__(self, folder: Path) -> None:
        self.bucket = folder / BUCKET
        shutil.copytree(REAL_LOGS / BUCKET, self.bucket)
        self.given = folder / "_digest"
        shutil.copytree(REAL_LOGS / "_digest", self.given)
        for path in folder.rglob("*"):
            path.chmod(0o700 if path.is_dir() else 0o600)
        trail = Trail(
            "main",
            self.bucket.as_uri(),
            public_keys=self.given / "list-public-keys.json",
            object_metadata=self.given / "object-metadata.json",
        )
        self.settings = Settings(
            (trail,),
            folder / "events",
            folder / "quarantine",
            folder / "state.db",
            process_workers=1,
        )
        self.problems: list[Problem] = []

    def change_trail(self, **keys: Any) -> None:
        """Give the trail other values of some keys."""
        trail = replace(self.settings.trails[0], **keys)
        self.settings = replace(self.settings, trails=(trail,))

    def rename(self, bucket: str, prefix: str = "") -> None:
        """Move everything into a folder of another name, below a prefix."""
        target = self.bucket.parent / bucket
        (target / prefix).parent.mkdir(parents=True, exist_ok=True)
        self.bucket.rename(target / prefix)
        self.bucket = target
        self.change_trail(bucket=target.as_uri(), prefix=prefix)

    def put_into_s3(self, address: str, bucket: str) -> None:
        """Put everything into a bucket, with its metadata; from now on the trail reads there."""
        metadata = json.loads((self.given / "object-metadata.json").read_text())
        client = boto3.client("s3", region_name="us-east-1", endpoint_url=address)
        client.create_bucket(Bucket=bucket)
        for path in sorted(self.bucket.rglob("*.gz")):
            key = str(path.relative_to(self.bucket))
            client.put_object(
                Bucket=bucket,
                Key=key,
                Body=path.read_bytes(),
                Metadata=metadata.get(f"{BUCKET}/{key}", {}),
            )
        self.change_trail(
            bucket=bucket, region="us-east-1", endpoint_url=address, object_metadata=None
        )

    def sync(self) -> None:
        sync(self.settings, Selection(), run_id="test")

    def check_digests(self) -> DigestResult:
        chosen = Selection()
        found_prefixes = find_prefixes(self.settings, chosen, self.problems.append, may_get=False)
        return check_digests(
            self.settings, chosen, found_prefixes.selected, report=self.problems.append
        )

    def digest(self, number: int) -> Path:
        return sorted((self.bucket / DIGESTS).iterdir())[number]

    def log(self, number: int = 20) -> Path:
        return sorted((self.bucket / LOGS).iterdir())[number]

    def url(self, path: Path) -> str:
        return f"s3://{self.bucket.name}/{path.relative_to(self.bucket)}"
