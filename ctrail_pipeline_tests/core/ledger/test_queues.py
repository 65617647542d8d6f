"""What the ledger keeps of queues: since when they work, how full they were, what they named."""

from contextlib import closing
from pathlib import Path

import pytest

from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queues import (
    Depth,
    Notified,
    QueueRow,
    Tally,
    note_asked,
    note_notified,
    queue_rows,
    tallies_of_queues,
)
from ctrail_pipeline_tests.support.engines import ENGINES, new_address

URL = "https://sqs.eu-central-1.amazonaws.com/111122223333/trail-events"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_queue_works_since_its_first_answer_and_keeps_what_is_known_of_it(
    tmp_path: Path, engine: str
) -> None:
    with closing(Ledger(new_address(engine, tmp_path))) as ledger:

        def asked(now: int, trouble: str, depth: Depth, *, is_drained: bool) -> QueueRow:
            with ledger.transaction():
                note_asked(ledger, URL, now, trouble, depth, is_drained=is_drained)
            return queue_rows(ledger)[URL]

        row = asked(10, "denied", Depth(), is_drained=False)
        assert row == QueueRow(0, 10, 0, "denied", Depth())
        row = asked(20, "", Depth(5, 1, 60), is_drained=False)
        assert row == QueueRow(20, 20, 0, "", Depth(5, 1, 60))
        # Whoever waits for messages does not ask how many there are.
        row = asked(30, "", Depth(oldest_seconds=2), is_drained=True)
        assert row == QueueRow(20, 30, 30, "", Depth(5, 1, 2))
        row = asked(40, "gone", Depth(), is_drained=False)
        assert row == QueueRow(20, 40, 30, "gone", Depth(5, 1, None))


@pytest.mark.parametrize("engine", ENGINES)
def test_what_messages_named_adds_up_and_keeps_the_newest_example(
    tmp_path: Path, engine: str
) -> None:
    with closing(Ledger(new_address(engine, tmp_path))) as ledger:
        for tallies in (
            {Notified.NEW: Tally(3, ""), Notified.DIGEST: Tally(1, "s3://logs/a")},
            {Notified.NEW: Tally(2, ""), Notified.DIGEST: Tally(1, "s3://logs/\x00b")},
        ):
            with ledger.transaction():
                note_notified(ledger, URL, tallies)
        assert tallies_of_queues(ledger) == {
            URL: {Notified.DIGEST: Tally(2, "s3://logs/\x00b"), Notified.NEW: Tally(5, "")}
        }
