"""A trail is brought in and checked whatever CloudTrail was told as the prefix, in S3.

CloudTrail delivers to `<prefix>/AWSLogs/…` with the prefix as it was told: with slashes at its
ends, with slashes side by side, with `AWSLogs` itself.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ctrail_pipeline.config.file import load_config
from ctrail_pipeline.config.generate import Described, config_of
from ctrail_pipeline.core.audit.explain import explainer
from ctrail_pipeline.core.audit.manifest import manifest
from ctrail_pipeline.core.audit.sought import Sought
from ctrail_pipeline.core.audit.verify import digest_of, verify
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.source_prefixes import source_ids
from ctrail_pipeline.core.listing.look import look
from ctrail_pipeline.core.listing.look_cursor import LookCursor
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run import sync as run
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep.accept import accept, accepted
from ctrail_pipeline.core.upkeep.accept_choice import Chosen
from ctrail_pipeline.core.upkeep.rebuild import rebuild
from ctrail_pipeline.reports.status import read_status
from ctrail_pipeline_tests.support.fault_server import FaultServer, key_path
from ctrail_pipeline_tests.support.signed_digests import ACCOUNT, HOUR, REGION, START, Delivery

SPELLINGS = ["AWSLogs", "foo/", "a//b", "/foo", "AWSLogs/", "foo/AWSLogs", "/"]
HOURS = 3
SECONDS = 30.0

Config = Callable[..., Settings]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    with FaultServer(tmp_path / "buckets") as server:
        for name, value in server.env().items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def config(tmp_path: Path, server: FaultServer) -> Config:
    """Write a configuration of trails in the bucket `logs`, and return its settings."""

    def settings_of(*trails: dict[str, Any]) -> Settings:
        place = {"bucket": "logs", "region": "us-east-1", "endpoint_url": server.endpoint_url}
        content = {
            "trails": [
                {"name": f"trail {at}", **trail, **place} for at, trail in enumerate(trails)
            ],
            "process_workers": 1,
        }
        (tmp_path / "config.json").write_text(json.dumps(content))
        return load_config({}, tmp_path).settings

    return settings_of


@pytest.fixture
def deliver(tmp_path: Path) -> Callable[..., Delivery]:
    """Let CloudTrail deliver so many hours to a prefix of the bucket `logs`."""

    def delivery_of(prefix: str, hours: int = HOURS, suffix: str = "A" * 16) -> Delivery:
        delivery = Delivery(tmp_path / "buckets", prefix=prefix)
        delivery.hours(hours, suffix=suffix)
        return delivery

    return delivery_of


def with_digests(settings: Settings, *deliveries: Delivery) -> Settings:
    """Settings whose trails know the public key and the digests' signatures."""
    folder = settings.state_db.parent
    files: dict[str, Any] = {**deliveries[0].files(folder)}
    metadata = {name: of_object for one in deliveries for name, of_object in one.metadata.items()}
    files["object_metadata"].write_text(json.dumps(metadata))
    return replace(settings, trails=tuple(replace(trail, **files) for trail in settings.trails))


def known(settings: Settings) -> dict[str, list[int]]:
    """The ids of source prefixes that the ledger has, by prefix."""
    with closing(Ledger(settings.state_db)) as ledger:
        ids: dict[str, list[int]] = {}
        for source_prefix, id_ in source_ids(ledger).items():
            ids.setdefault(source_prefix.prefix, []).append(id_)
    return ids


def assert_in(settings: Settings, log_files: int) -> None:
    """Assert that a sync finds so many new log files, that the next finds none, and all is well."""
    summary = sync(settings)
    assert (summary.ok, summary.progress.log_files, summary.left_aside) == (True, log_files, {})
    assert sync(settings).progress.log_files == 0


def assert_proved(settings: Settings, log_files: int) -> None:
    report = verify(settings)
    assert (list(report.findings), report.problems) == ([], [])
    assert report.log_files_proved == log_files


@pytest.mark.parametrize("prefix", SPELLINGS)
def test_a_trail_is_brought_in_and_proved(
    deliver: Callable[..., Delivery], config: Config, prefix: str
) -> None:
    delivery = deliver(prefix)
    settings = with_digests(config({"prefix": prefix}), delivery)
    assert_in(settings, HOURS)
    assert list(known(settings)) == [prefix]
    assert_proved(settings, HOURS)
    [status] = read_status(settings).partitions
    assert (status.trail, status.log_files) == ("trail 0", HOURS)


@pytest.mark.parametrize("prefix", SPELLINGS)
def test_log_files_of_a_trail_are_looked_for_explained_and_accepted(
    deliver: Callable[..., Delivery], config: Config, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctrail_pipeline.core.listing.look.rests_this_round", lambda *_: False)
    delivery = deliver(prefix)
    settings = with_digests(config({"prefix": prefix}), delivery)
    assert look(settings, LookCursor(), SECONDS).backlog == [("trail 0", f"{ACCOUNT}/{REGION}")]
    assert sync(settings).progress.log_files == HOURS

    key = delivery.log_file(START + HOURS * HOUR, "B" * 16)
    assert look(settings, LookCursor(), SECONDS).found == 1
    assert sync(settings, Selection(listed=True)).progress.log_files == 1
    with explainer(settings, digest_of(settings), fetch=True) as explain:
        lines = list(explain.lines(Sought(start=START, accounts=[ACCOUNT])))
        explained = [explain.explain(line) for line in lines]
    assert {(found.trail, found.index, found.note) for found in explained} == {("trail 0", 0, "")}
    assert f"s3://logs/{key}" in {found.where for found in explained}
    assert [found.digest for found in explained if found.key != key] == [
        "proved: a digest that holds lists it with this SHA-256"
    ] * HOURS
    assert key in b"".join(manifest(settings, Sought())).decode()

    key_path(delivery.folder, key.replace("B" * 16, "C" * 16)).write_bytes(b"no gzip")
    damaged = f"s3://logs/{key.replace('B' * 16, 'C' * 16)}"
    assert not sync(settings).ok
    assert accept(settings, Chosen([damaged]), "lost").named[0][0] == damaged
    assert sync(settings).ok

    settings.state_db.unlink()
    rebuild(settings)
    assert [address for address, _ in accepted(settings, Chosen())] == [damaged]
    assert sync(settings).progress.events == 0
    assert list(known(settings)) == [prefix]


@pytest.mark.thorough
def test_worker_processes_fetch_the_keys_as_they_are(
    deliver: Callable[..., Delivery], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "WORTHWHILE", 1)
    deliver("/a//b/")
    assert_in(replace(config({"prefix": "/a//b/"}), process_workers=2), HOURS)


@pytest.mark.parametrize("prefix", [spelling for spelling in SPELLINGS if spelling != "a//b"])
def test_where_log_files_lie_at_the_meant_prefix_nothing_changes(
    deliver: Callable[..., Delivery], config: Config, server: FaultServer, prefix: str
) -> None:
    settings = config({"prefix": prefix})
    [trail] = settings.trails
    deliver(trail.prefix)
    deliver(prefix, suffix="B" * 16)
    assert sync(settings).progress.log_files == HOURS
    before = server.counts
    assert sync(settings).progress.log_files == 0
    requests = (server.counts - before).requests
    meant = replace(settings, trails=(replace(trail, written_prefix=None),))
    before = server.counts
    assert sync(meant).progress.log_files == 0
    assert (server.counts - before).requests == requests
    assert list(known(settings)) == [trail.prefix]


@pytest.mark.parametrize("prefix", ["AWSLogs", "foo/", "AWSLogs/"])
def test_a_folder_that_appears_at_the_meant_prefix_hides_nothing(
    deliver: Callable[..., Delivery], config: Config, prefix: str
) -> None:
    delivery = deliver(prefix)
    settings = config({"prefix": prefix})
    assert_in(settings, HOURS)
    first = known(settings)
    meant = deliver(settings.trails[0].prefix, suffix="B" * 16)
    delivery.hours(HOURS, START + HOURS * HOUR)
    settings = with_digests(settings, meant, delivery)
    assert_in(settings, 2 * HOURS)
    assert_proved(settings, 3 * HOURS)
    assert known(settings) == first | {settings.trails[0].prefix: [first[prefix][0] + 1]}


def test_every_trail_of_a_bucket_that_cloudtrail_describes_is_brought_in(
    deliver: Callable[..., Delivery], config: Config
) -> None:
    prefixes = ["", "foo", *SPELLINGS]
    deliveries = [deliver(prefix, suffix=f"{number:016}") for number, prefix in enumerate(prefixes)]
    described = [
        Described(f"t{number}", f"{number}", "logs", prefix, "eu-west-1", None, True, False)
        for number, prefix in enumerate(prefixes)
    ]
    settings = with_digests(config(*config_of(described)["trails"]), *deliveries)
    assert [trail.prefixes for trail in settings.trails] == [(prefix,) for prefix in prefixes]
    summary = sync(settings)
    assert (summary.ok, summary.progress.log_files) == (True, HOURS * len(prefixes))
    assert sync(settings).progress.log_files == 0
    assert set(known(settings)) == set(prefixes)
