"""The status as metrics in Prometheus's text format, for node_exporter's textfile collector."""

import time
from collections.abc import Iterable, Sequence

from ctrail_pipeline.core.log_file.event_time import moment_of

from .status import Status


def as_prometheus(status: Status) -> str:
    """The status in Prometheus's text format, for node_exporter's textfile collector."""
    lines: list[str] = []

    def metric(
        name: str, text: str, samples: Iterable[tuple[Sequence[tuple[str, str]], float | None]]
    ) -> None:
        known = [(labels, value) for labels, value in samples if value is not None]
        if known:
            lines.extend((f"# HELP {name} {text}", f"# TYPE {name} gauge"))
        for labels, value in known:
            shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
            lines.append(f"{name}{f'{{{shown}}}' if shown else ''} {value:.0f}")

    def of_partitions(name: str, text: str, values: Iterable[float | None]) -> None:
        metric(name, text, zip(places, values, strict=True))

    places = [
        (("trail", one.trail), ("account", one.account), ("region", one.region))
        for one in status.partitions
    ]
    of_partitions(
        "ctrail_cursor_timestamp_seconds",
        "End of the newest stretch of log file time that is wholly done.",
        [one.cursor.timestamp() if one.cursor else None for one in status.partitions],
    )
    of_partitions(
        "ctrail_newest_event_timestamp_seconds",
        "Time of the newest event.",
        [_seconds(one.newest_event) for one in status.partitions],
    )
    of_partitions(
        "ctrail_log_files", "Log files committed.", [one.log_files for one in status.partitions]
    )
    of_partitions(
        "ctrail_events",
        "Events brought, duplicates apart.",
        [one.events for one in status.partitions],
    )
    metric(
        "ctrail_log_files_open",
        "Log files that are not committed, by state.",
        [
            ((*place, ("state", state)), getattr(one, state))
            for place, one in zip(places, status.partitions, strict=True)
            for state in ("failed", "damaged", "waiting", "archived", "gone")
        ],
    )
    of_partitions(
        "ctrail_quarantined_records",
        "Records in quarantine.",
        [one.quarantined for one in status.partitions],
    )
    metric(
        "ctrail_output_bytes",
        "Bytes of event files on disk.",
        [((("account", one.account), ("region", one.region)), one.bytes) for one in status.output],
    )
    metric(
        "ctrail_parquet_bytes",
        "Bytes of Parquet files on disk.",
        [
            ((("account", one.account), ("region", one.region)), one.parquet_bytes)
            for one in status.output
        ],
    )
    metric("ctrail_quarantine_bytes", "Bytes of quarantine files.", [((), status.quarantine_bytes)])
    metric("ctrail_ledger_bytes", "Bytes of the ledger.", [((), status.ledger_bytes)])
    metric("ctrail_status_timestamp_seconds", "When this was written.", [((), time.time())])
    return "".join(f"{line}\n" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _seconds(event_time: str | None) -> float | None:
    try:
        return None if event_time is None else moment_of(event_time).timestamp()
    except ValueError:
        return None
