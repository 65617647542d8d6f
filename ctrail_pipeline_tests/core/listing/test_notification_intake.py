"""Notifications become events exactly once, whatever happens to messages, runs and queues."""

import json
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queues import Notified, Tally, queue_rows, tallies_of_queues
from ctrail_pipeline.core.ledger.source_prefixes import covered_ranges
from ctrail_pipeline.core.listing import notification_intake
from ctrail_pipeline.core.listing.look import Look, look
from ctrail_pipeline.core.listing.look_cursor import LookCursor
from ctrail_pipeline.core.listing.notification_intake import queues_of, take_notifications
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline_tests.support.dying_intake import DIES
from ctrail_pipeline_tests.support.engines import ENGINES, with_ledger_in
from ctrail_pipeline_tests.support.moto_server import moto_server
from ctrail_pipeline_tests.support.new_log_files import NOW
from ctrail_pipeline_tests.support.notified_bucket import (
    ACCOUNT,
    BUCKET,
    WAYS,
    NotifiedBucket,
    s3_message,
    set_nobodys_credentials,
)
from ctrail_pipeline_tests.support.oracle import read_buckets
from ctrail_pipeline_tests.support.project import PROJECT
from ctrail_pipeline_tests.support.sync_process import assert_exact
from ctrail_pipeline_tests.support.thorough import thorough

SECONDS = 20.0
LISTED = Selection(listed=True)
REGION = "eu-west-1"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_server() as address:
        yield address


@pytest.fixture
def bucket(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NotifiedBucket:
    set_nobodys_credentials(monkeypatch, tmp_path)
    # Moto's queue is one server, so what is in it is seen without a wait.
    monkeypatch.setattr(notification_intake, "_SHORT_WAIT_SECONDS", 0)
    return NotifiedBucket(endpoint, tmp_path)


def take(settings: Settings) -> dict[Notified, int]:
    """Take notifications alone: nothing is listed."""
    [taken] = take_notifications(settings, queues_of(settings.trails), SECONDS)
    assert taken.trouble == ""
    assert taken.is_drained
    return dict(taken.counts)


def tallies(settings: Settings) -> dict[Notified, Tally]:
    with closing(Ledger(settings.ledger)) as ledger:
        return tallies_of_queues(ledger).get(str(settings.trails[0].queue), {})


def fetch(settings: Settings) -> int:
    """Fetch what was found, without a listing, and return the number of log files."""
    summary = sync(settings, LISTED)
    assert summary.ok, summary.problems
    return summary.progress.log_files


def started(bucket: NotifiedBucket, settings: Settings | None = None) -> Settings:
    """Return settings of a ledger that has one log file, with an empty queue."""
    settings = settings or bucket.settings()
    bucket.put(ACCOUNT, REGION, NOW - timedelta(hours=2), "A")
    assert sync(settings).ok
    return settings


def assert_all_in(bucket: NotifiedBucket, settings: Settings) -> None:
    assert_exact(settings, read_buckets([(bucket.folder, "")]))
    assert sync(settings).progress.log_files == 0


@pytest.mark.parametrize("way", WAYS)
def test_a_notification_on_each_way_becomes_events_without_a_listing(
    bucket: NotifiedBucket, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = started(bucket)
    bucket.notify(way)
    bucket.put(ACCOUNT, REGION, NOW, "B")
    bucket.put("111122223333", "us-east-1", NOW, "C")  # an account that nobody knows yet
    with monkeypatch.context() as patched:
        patched.setattr("ctrail_pipeline.core.bucket.s3.S3Bucket.list_page", None)
        patched.setattr("ctrail_pipeline.core.bucket.s3.S3Bucket.list_folder", None)
        assert take(settings)[Notified.NEW] == 2
        assert fetch(settings) == 2
    assert bucket.messages == 0
    assert_all_in(bucket, settings)


@pytest.mark.parametrize("raw", [False, True])
def test_cloudtrails_own_messages_name_log_files_without_their_version(
    bucket: NotifiedBucket, *, raw: bool
) -> None:
    settings = started(bucket)
    topic = bucket.topic(raw=raw)
    keys = [bucket.put(ACCOUNT, REGION, NOW - timedelta(minutes=n), "B") for n in range(3)]
    text = json.dumps({"s3Bucket": BUCKET, "s3ObjectKey": keys})
    for _ in range(2):
        bucket.client("sns").publish(TopicArn=topic, Message=text)
    assert take(settings) == {Notified.NEW: 3, Notified.KNOWN: 3}
    assert fetch(settings) == 3
    bucket.client("sns").publish(TopicArn=topic, Message=text)
    assert take(settings) == {Notified.KNOWN: 3}
    assert fetch(settings) == 0
    assert_all_in(bucket, settings)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_look_and_a_sync_take_what_is_in_the_queue(bucket: NotifiedBucket, engine: str) -> None:
    settings = started(bucket, with_ledger_in(engine, bucket.settings()))
    bucket.notify("s3")
    bucket.put(ACCOUNT, REGION, NOW, "B")
    found = look(settings, LookCursor(), SECONDS)
    # The listing of the same look has nothing new to find.
    assert (found.found, found.taken[0].counts[Notified.NEW]) == (0, 1)
    assert found.waiting["main", f"{ACCOUNT}/{REGION}"].log_files == 1
    assert fetch(settings) == 1
    bucket.put(ACCOUNT, REGION, NOW, "C")
    assert sync(settings).progress.log_files == 1
    assert tallies(settings)[Notified.NEW].number == 2
    assert bucket.messages == 0
    with closing(Ledger(settings.ledger)) as ledger:
        [row] = queue_rows(ledger).values()
    assert row.trouble == ""
    assert 0 < row.works_since <= row.drained_at == row.asked_at
    assert_all_in(bucket, settings)


def test_messages_that_come_twice_late_and_in_any_order_change_nothing(
    bucket: NotifiedBucket,
) -> None:
    settings = started(bucket)
    keys = [bucket.put(ACCOUNT, REGION, NOW - timedelta(minutes=n), "B") for n in range(30)]
    objects = {item["Key"]: item for item in bucket.s3.list_objects_v2(Bucket=BUCKET)["Contents"]}
    messages = [
        s3_message(key, size=objects[key]["Size"], eTag=objects[key]["ETag"].strip('"'))
        for key in keys
    ]
    bucket.send(*messages[::-1], *messages[::2])
    assert take(settings) == {Notified.NEW: 30, Notified.KNOWN: 15}
    assert fetch(settings) == 30
    bucket.send(*messages)
    assert take(settings) == {Notified.KNOWN: 30}
    assert fetch(settings) == 0
    assert_all_in(bucket, settings)


def test_an_older_version_that_is_named_late_brings_nothing_back(bucket: NotifiedBucket) -> None:
    settings = started(bucket)
    bucket.notify("s3")
    first = bucket.put(ACCOUNT, REGION, NOW, "B")
    take(settings)
    old = bucket.s3.head_object(Bucket=BUCKET, Key=first)
    bucket.s3.put_object(Bucket=BUCKET, Key=first, Body=(bucket.folder / first).read_bytes())
    bucket.send(s3_message(first, size=old["ContentLength"], eTag="0" * 32))
    take(settings)
    fetch(settings)
    assert_all_in(bucket, settings)


def test_notifications_move_no_coverage(bucket: NotifiedBucket) -> None:
    settings = started(bucket)
    with closing(Ledger(settings.ledger)) as ledger:
        before = covered_ranges(ledger)
    bucket.notify("s3")
    bucket.put(ACCOUNT, REGION, NOW, "B")
    take(settings)
    fetch(settings)
    with closing(Ledger(settings.ledger)) as ledger:
        assert covered_ranges(ledger) == before


@pytest.mark.parametrize(
    ("step", "engine"),
    [
        *(("received", "sqlite"), ("committed", "sqlite")),
        *(("noted", "postgres"), ("deleted", "postgres")),
        *thorough(("noted", "sqlite"), ("deleted", "sqlite")),
        *thorough(("received", "postgres"), ("committed", "postgres")),
    ],
)
def test_who_dies_at_any_step_loses_and_doubles_nothing(
    bucket: NotifiedBucket, step: str, engine: str
) -> None:
    settings = started(bucket, with_ledger_in(engine, bucket.settings()))
    bucket.notify("s3")
    for number in range(12):
        bucket.put(ACCOUNT, REGION, NOW - timedelta(minutes=number), "B")
    dead = subprocess.run(
        [sys.executable, "-c", DIES, step],
        cwd=PROJECT,
        input=pickle.dumps(settings),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert dead.returncode == -9, dead.stderr.decode()
    wait_until_visible(bucket)
    take_notifications(settings, queues_of(settings.trails), SECONDS)
    assert bucket.messages == 0
    assert fetch(settings) == 12
    assert_all_in(bucket, settings)


def wait_until_visible(bucket: NotifiedBucket) -> None:
    """Wait until no message is hidden any more."""
    name = "ApproximateNumberOfMessagesNotVisible"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        reply = bucket.sqs.get_queue_attributes(QueueUrl=bucket.queue, AttributeNames=[name])
        if reply["Attributes"][name] == "0":
            return
        time.sleep(0.1)
    raise AssertionError("messages stay hidden")


def test_each_kind_of_message_is_counted_and_goes_or_stays(bucket: NotifiedBucket) -> None:
    settings = bucket.settings(bucket.trail(exclude_regions=("us-*",)))
    settings = started(bucket, settings)
    wanted = bucket.put(ACCOUNT, REGION, NOW, "B")
    other_region = wanted.replace(REGION, "us-west-1")
    digest = wanted.replace("CloudTrail/", "CloudTrail-Digest/")
    secret = "AKIASECRET"
    stays = [
        s3_message(wanted, bucket="others"),
        f"{secret} is no JSON",
        json.dumps({"detail-type": secret}),
    ]
    bucket.send(
        s3_message(wanted),
        s3_message(other_region),
        s3_message(digest),
        s3_message("elb/x.log"),
        json.dumps({"Event": "s3:TestEvent"}),
        *stays,
    )
    taken = take(settings)
    assert taken == {
        Notified.NEW: 1,
        Notified.NOT_SELECTED: 1,
        Notified.DIGEST: 1,
        Notified.NO_LOG_FILE: 1,
        Notified.OTHER_EVENT: 1,
        Notified.OTHER_BUCKET: 1,
        Notified.NOT_UNDERSTOOD: 2,
    }
    assert bucket.messages == len(stays)
    counted = tallies(settings)
    assert {sort: tally.number for sort, tally in counted.items()} == taken | {
        Notified.OTHER_EVENT: 1
    }
    assert counted[Notified.OTHER_BUCKET].example == f"s3://others/{wanted}"
    assert counted[Notified.DIGEST].example == f"s3://{BUCKET}/{digest}"
    assert counted[Notified.NOT_UNDERSTOOD].example.startswith("message ")
    assert not any(secret in tally.example for tally in counted.values())
    wait_until_visible(bucket)
    assert take(settings) == {}  # what stays comes again, and counts once
    assert bucket.messages == len(stays)
    assert tallies(settings) == counted


def test_a_message_about_several_buckets_stays_and_what_is_ours_of_it_is_noted(
    bucket: NotifiedBucket,
) -> None:
    settings = started(bucket)
    ours = bucket.put(ACCOUNT, REGION, NOW, "B")
    records = [
        *json.loads(s3_message(ours))["Records"],
        *json.loads(s3_message(ours, bucket="others"))["Records"],
    ]
    bucket.send(json.dumps({"Records": records}))
    assert take(settings) == {Notified.NEW: 1, Notified.OTHER_BUCKET: 1}
    assert bucket.messages == 1
    assert fetch(settings) == 1
    assert_all_in(bucket, settings)


def test_several_trails_share_a_queue_and_a_run_of_one_takes_for_all(
    bucket: NotifiedBucket,
) -> None:
    second = bucket.trail(name="second", prefix="second")
    key = bucket.put(ACCOUNT, REGION, NOW, "B")
    bucket.s3.copy_object(Bucket=BUCKET, Key=f"second/{key}", CopySource=f"{BUCKET}/{key}")
    settings = bucket.settings(bucket.trail(), second)
    Ledger(settings.ledger).close()
    bucket.send(s3_message(key), s3_message(f"second/{key}"))
    assert sync(settings, Selection(trails=["main"])).progress.log_files == 1
    assert bucket.messages == 0
    assert tallies(settings)[Notified.NEW].number == 2
    found = look(settings, LookCursor(), SECONDS)
    assert found.waiting["second", f"{ACCOUNT}/{REGION}"].log_files == 1


@pytest.mark.parametrize("key", ["../../etc/passwd", "AWSLogs/1/CloudTrail/r/\x00\x1b[2J.json.gz"])
def test_forged_keys_harm_nothing_but_are_named_as_gone(bucket: NotifiedBucket, key: str) -> None:
    settings = started(bucket)
    real = bucket.put(ACCOUNT, REGION, NOW, "B")
    forged = json.dumps({"s3Bucket": BUCKET, "s3ObjectKey": [key, real + "/../x.json.gz"]})
    # A size and a version that the log file does not have.
    bucket.send(forged, s3_message(real, size=10**15, eTag="f" * 32))
    take(settings)
    summary = sync(settings, LISTED)
    assert {problem.state for problem in summary.problems} == {"gone"}
    assert all(problem.where.isprintable() for problem in summary.problems)
    assert_exact(settings, read_buckets([(bucket.folder, "")]))


def test_many_queues_are_asked_side_by_side(
    bucket: NotifiedBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notification_intake, "_SHORT_WAIT_SECONDS", 2)
    trails = [
        bucket.trail(name=f"t{n}", prefix=f"p{n}", queue=bucket.make_queue(f"queue-{n}"))
        for n in range(8)
    ]
    settings = bucket.settings(*trails)
    Ledger(settings.ledger).close()
    taken = take_notifications(settings, queues_of(trails), 8)
    assert [item.is_drained for item in taken] == [True] * 8


def test_what_fails_too_often_becomes_a_dead_letter(bucket: NotifiedBucket) -> None:
    settings = started(bucket)
    dead = bucket.make_queue("dead")
    policy = {"deadLetterTargetArn": bucket.arn(dead), "maxReceiveCount": "1"}
    bucket.sqs.set_queue_attributes(
        QueueUrl=bucket.queue, Attributes={"RedrivePolicy": json.dumps(policy)}
    )
    bucket.send("x", s3_message(bucket.put(ACCOUNT, REGION, NOW, "B")))
    assert take(settings) == {Notified.NEW: 1, Notified.NOT_UNDERSTOOD: 1}
    wait_until_visible(bucket)
    assert take(settings) == {}
    with closing(Ledger(settings.ledger)) as ledger:
        [row] = queue_rows(ledger).values()
    assert (row.depth.waiting, row.depth.dead_letters) == (0, 1)
    assert fetch(settings) == 1


def test_many_malformed_messages_do_not_keep_a_log_file_waiting(
    bucket: NotifiedBucket,
) -> None:
    settings = started(bucket)
    bucket.sqs.set_queue_attributes(QueueUrl=bucket.queue, Attributes={"VisibilityTimeout": "600"})
    bucket.send(*("x" * 100 for _ in range(100)))
    bucket.send(s3_message(bucket.put(ACCOUNT, REGION, NOW, "B")), "y" * 250_000)
    assert take(settings) == {Notified.NEW: 1, Notified.NOT_UNDERSTOOD: 101}
    assert bucket.messages == 101
    assert fetch(settings) == 1


def looked(settings: Settings) -> Look:
    return look(settings, LookCursor(), SECONDS)


@pytest.mark.parametrize(
    ("queue", "says"),
    [
        ("http://{host}/123456789012/gone", "there is no such queue"),
        ("http://{host}/123456789012/x.fifo", "FIFO"),
        ("http://127.0.0.1:9/123456789012/x", "no answer of 127.0.0.1"),
    ],
)
def test_a_queue_that_cannot_be_asked_is_one_sentence_and_listing_goes_on(
    bucket: NotifiedBucket, queue: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = queue.format(host=bucket.endpoint.removeprefix("http://"))
    settings = started(bucket, bucket.settings(bucket.trail(queue=url)))
    bucket.put(ACCOUNT, REGION, NOW, "B")
    caplog.clear()
    found = looked(settings)
    assert says in found.taken[0].trouble
    assert url in found.taken[0].trouble
    assert found.problems == []
    assert found.found == 1
    [line] = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert line == f"{found.taken[0].trouble}; until it works, listing alone finds new log files"
    with closing(Ledger(settings.ledger)) as ledger:
        assert queue_rows(ledger)[url].trouble == found.taken[0].trouble
    repaired = replace(settings, trails=(bucket.trail(),))
    assert looked(repaired).taken[0].trouble == ""
