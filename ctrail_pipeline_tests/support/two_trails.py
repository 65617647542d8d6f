"""Two trails that deliver one account and region, and the question where an event came from."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

from ctrail_pipeline.core.audit.explain import Explained, explainer
from ctrail_pipeline.core.audit.sought import Sought
from ctrail_pipeline.core.keys.log_file_key import key_of
from ctrail_pipeline.core.keys.minutes import day_number
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Trail
from ctrail_pipeline_tests.support.sync_process import settings_in

ACCOUNT = "111122223333"
REGION = "eu-west-1"
DAY = day_number(2026, 1, 10) or 0


def event(event_id: str | None, minute: int = 0, **changes: object) -> bytes:
    fields: dict[str, object] = {
        "eventTime": f"2026-01-10T12:{minute:02}:00Z",
        "eventName": "GetObject",
        "awsRegion": REGION,
        "recipientAccountId": ACCOUNT,
    }
    return json.dumps(fields | {"eventID": event_id} | changes).encode()


class TwoTrails:
    """Two trails that deliver one account and region, each into a bucket of its own."""

    def __init__(self, folder: Path) -> None:
        self.buckets = {name: folder / name for name in ("first", "second")}
        trails = [Trail(name, path.as_uri()) for name, path in self.buckets.items()]
        self.settings = settings_in(folder, trails)

    def put(self, trail: str, suffix: str, *events: bytes) -> Path:
        source_prefix = SourcePrefix(self.buckets[trail].as_uri(), "", "", ACCOUNT, REGION)
        path = self.buckets[trail] / key_of(source_prefix, DAY, f"1210{suffix:0>16}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(b'{"Records":[' + b",".join(events) + b"]}"))
        return path

    def sync(self) -> None:
        trails = [trail for trail in self.settings.trails if self.buckets[trail.name].exists()]
        assert sync(replace(self.settings, trails=tuple(trails)), run_id="the-run").ok

    def explain(self, sought: Sought, *, fetch: bool = False) -> list[Explained]:
        with explainer(self.settings, fetch=fetch) as explain:
            return [explain.explain(line) for line in explain.lines(sought)]

    def at(self, text: str) -> Explained:
        with explainer(self.settings) as explain:
            return explain.explain(explain.line_at(text))
