"""The status as metrics in Prometheus's text format, for node_exporter's textfile collector."""

import time
from collections.abc import Callable, Iterable, Iterator

from ctrail_pipeline.core.log_file.event_time import moment_of

from .queue_status import QueueStatus
from .status import OutputStatus, PartitionStatus, Status

_Labels = tuple[tuple[str, str], ...]

_OPEN_STATES = ("failed", "damaged", "waiting", "archived", "gone")
_OF_PARTITIONS: tuple[tuple[str, str, Callable[[PartitionStatus], float | None]], ...] = (
    (
        "ctrail_cursor_timestamp_seconds",
        "End of the newest stretch of log file time that is wholly done.",
        lambda partition: partition.cursor.timestamp() if partition.cursor else None,
    ),
    (
        "ctrail_newest_event_timestamp_seconds",
        "Time of the newest event.",
        lambda partition: _seconds(partition.newest_event),
    ),
    ("ctrail_log_files", "Log files committed.", lambda partition: partition.log_files),
    ("ctrail_events", "Events brought in, without duplicates.", lambda partition: partition.events),
    (
        "ctrail_quarantined_records",
        "Records in quarantine.",
        lambda partition: partition.quarantined,
    ),
    (
        "ctrail_log_files_accepted",
        "Log files that could not be brought in, and that somebody settled as they are.",
        lambda partition: partition.accepted,
    ),
    (
        "ctrail_log_files_missed",
        "Log files found by listing, though a notification should have named them.",
        lambda partition: partition.missed,
    ),
)
_OF_OUTPUT: tuple[tuple[str, str, Callable[[OutputStatus], float]], ...] = (
    ("ctrail_output_bytes", "Bytes of event files on disk.", lambda output: output.bytes),
    (
        "ctrail_parquet_bytes",
        "Bytes of Parquet files on disk.",
        lambda output: output.parquet_bytes,
    ),
)


_OF_QUEUES: tuple[tuple[str, str, Callable[[QueueStatus], float | None]], ...] = (
    (
        "ctrail_queue_works",
        "1 if the queue could be asked last time, 0 if not.",
        lambda queue: not queue.trouble,
    ),
    (
        "ctrail_queue_asked_timestamp_seconds",
        "When the queue was last asked.",
        lambda queue: queue.asked_at,
    ),
    ("ctrail_queue_messages", "Messages that were in the queue.", lambda queue: queue.waiting),
    (
        "ctrail_queue_oldest_seconds",
        "Age of the oldest message that was received.",
        lambda queue: queue.oldest_seconds,
    ),
    (
        "ctrail_queue_dead_letters",
        "Messages in the queue's dead-letter queue.",
        lambda queue: queue.dead_letters,
    ),
)


def as_prometheus(status: Status) -> str:
    """Return the metrics, a line each; a sample whose value is unknown is left out."""
    return "".join(f"{line}\n" for line in _lines(status))


def _lines(status: Status) -> Iterator[str]:
    for name, text, value_of in _OF_PARTITIONS:
        samples = [(_partition(partition), value_of(partition)) for partition in status.partitions]
        yield from _metric(name, text, samples)
    yield from _metric(
        "ctrail_log_files_open",
        "Log files that are neither committed nor accepted, by state.",
        [
            ((*_partition(partition), ("state", state)), getattr(partition, state))
            for partition in status.partitions
            for state in _OPEN_STATES
        ],
    )
    for name, text, bytes_of in _OF_OUTPUT:
        sizes = [(_output(output), bytes_of(output)) for output in status.output]
        yield from _metric(name, text, sizes)
    yield from _of_queues(status.queues)
    yield from _metric(
        "ctrail_ledger_cold_bytes",
        "Bytes of the ledger that cold rows of a year take, in PostgreSQL.",
        [((("year", year),), size) for year, size in status.ledger_cold_bytes.items()],
    )
    for name, text, value in (
        ("ctrail_quarantine_bytes", "Bytes of quarantine files.", status.quarantine_bytes),
        ("ctrail_ledger_bytes", "Bytes of the ledger.", status.ledger_bytes),
        (
            "ctrail_lost_files",
            "Output files that vanished before they were published, and could not be made again.",
            len(status.lost_files),
        ),
        (
            "ctrail_events_not_in_parquet",
            "Events that are in the JSONL only, if Parquet is configured.",
            None if status.not_in_parquet is None else status.not_in_parquet.events,
        ),
        ("ctrail_status_timestamp_seconds", "When this was written.", time.time()),
    ):
        yield from _metric(name, text, [((), value)])


def _of_queues(queues: Iterable[QueueStatus]) -> Iterator[str]:
    asked = [queue for queue in queues if queue.asked_at]
    for name, text, value_of in _OF_QUEUES:
        samples = [((("queue", queue.url),), value_of(queue)) for queue in asked]
        yield from _metric(name, text, samples)
    yield from _metric(
        "ctrail_queue_named",
        "What the messages of a queue named, by sort.",
        [
            ((("queue", queue.url), ("sort", sort)), number)
            for queue in asked
            for sort, number in queue.counts.items()
        ],
    )


def _metric(name: str, text: str, samples: Iterable[tuple[_Labels, float | None]]) -> Iterator[str]:
    known = [(labels, value) for labels, value in samples if value is not None]
    if known:
        yield f"# HELP {name} {text}"
        yield f"# TYPE {name} gauge"
    for labels, value in known:
        shown = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels)
        yield f"{name}{f'{{{shown}}}' if shown else ''} {value:.0f}"


def _partition(partition: PartitionStatus) -> _Labels:
    return (
        ("trail", partition.trail),
        ("account", partition.account),
        ("region", partition.region),
    )


def _output(output: OutputStatus) -> _Labels:
    return ("account", output.account), ("region", output.region)


def _escaped(text: str) -> str:
    """Return the value of a label as the text format has it."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _seconds(event_time: str | None) -> float | None:
    """Return seconds since 1970; None for a time that cannot be read."""
    try:
        return None if event_time is None else moment_of(event_time).timestamp()
    except ValueError:
        return None
