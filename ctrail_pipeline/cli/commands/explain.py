"""`ctrail explain`: where an event came from, for people and as JSON.

The lines of events are printed as they are (on a terminal, without what could steer it). They are
the user's own data, and they go to the standard output only. Not here: how a line is found and
explained (`core.audit.explain`), and the words (`reports.explain`).
"""

import argparse
import sys
from typing import TYPE_CHECKING, Final

from ctrail_pipeline.cli.exit_codes import EXIT_FAILED, EXIT_OK
from ctrail_pipeline.cli.options import Command, add_events, add_json, events_of

if TYPE_CHECKING:
    from ctrail_pipeline.core.audit.explain import Explained

_DESCRIPTION = """\
Says where an event came from: its line in the output, its log file (bucket, key, etag,
SHA-256), the run that committed it, and when.
"""
_EPILOG = """\
  ctrail explain 8a6d1f5c-1b0e-4d5c-9f43-0f6f0b7c2f10
  ctrail explain events/111122223333/eu-west-1/2026/01/13/03/events_00001.jsonl:17
  ctrail explain --event-name ConsoleLogin --since 7d --account 111122223333 --json
If several different events share an eventID, all of them are listed, with their differences.
"""


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "event",
        nargs="?",
        metavar="EVENTID | FILE:LINE",
        help="an eventID, or a line of an output file",
    )
    add_events(parser, "which events")
    parser.add_argument("--event-name", metavar="NAME", help="events of this eventName")
    parser.add_argument(
        "--limit", type=int, default=20, metavar="N", help="explain at most N events (20)"
    )
    parser.add_argument(
        "--fetch",
        action="store_true",
        help="fetch the log file: find the record's index in it, and copies in other log files",
    )
    add_json(parser, "a JSON object for each event")


def _run(options: argparse.Namespace) -> int:
    from itertools import islice

    from ctrail_pipeline.config.file import load_config
    from ctrail_pipeline.core.audit.explain import explainer
    from ctrail_pipeline.core.audit.verify import digest_of
    from ctrail_pipeline.core.exceptions import ConfigurationError

    settings = load_config().settings
    line = options.event if options.event and ".jsonl" in options.event else None
    event_id = None if line else options.event
    sought = events_of(options, event_id=event_id, event_name=options.event_name)
    if not (options.event or sought.event_name or sought.start or sought.end):
        raise ConfigurationError("explain: give an eventID, FILE:LINE, --event-name or a time")
    digests = {"digest_of": digest_of(settings)} if options.fetch else {}
    explained: list[Explained] = []
    with explainer(settings, **digests, fetch=options.fetch) as explain:
        lines = iter([explain.line_at(line)]) if line else explain.lines(sought)
        count = 0
        for event_line in islice(lines, options.limit):
            event = explain.explain(event_line)
            count += 1
            _print(event, show_json=options.as_json)
            if event_id is not None:
                explained.append(event)
        has_more = next(lines, None) is not None
    if len(explained) > 1 and not options.as_json:
        _print_differences(explained)
    if has_more:
        print(
            f"ctrail: there are more than {options.limit} such events: raise --limit to see them",
            file=sys.stderr,
        )
    if not count:
        print("ctrail: there is no such event in the output", file=sys.stderr)
    return EXIT_OK if count else EXIT_FAILED


def _print(event: "Explained", *, show_json: bool) -> None:
    import json

    from ctrail_pipeline.core.untrusted_text import printable
    from ctrail_pipeline.reports.explain import as_json, as_text

    if show_json:
        print(json.dumps(as_json(event)))
        return
    print("\n".join(as_text(event)))
    data = event.line.data
    if sys.stdout.isatty():
        print(printable(data.decode(errors="backslashreplace")))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(data + b"\n")
        sys.stdout.buffer.flush()
    print()


def _print_differences(events: "list[Explained]") -> None:
    from ctrail_pipeline.reports.explain import differences

    print(
        f"{len(events)} different events have this eventID. They differ in:"
        f" {', '.join(differences(events))}. Either AWS made a mistake or somebody forged an event:"
        " compare their log files above"
    )


COMMAND: Final = Command(
    name="explain",
    summary="where an event came from",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_options=_add_options,
    run=_run,
)
