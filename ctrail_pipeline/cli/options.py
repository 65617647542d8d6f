"""What a command of `ctrail` consists of, and the options that several commands share.

A command's own options stand in its file below `commands`. Nothing here imports the core before
it is needed: `ctrail --help` must be there at once.
"""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ctrail_pipeline.core.audit.sought import Sought
    from ctrail_pipeline.core.listing.selection import Selection


class Command(NamedTuple):
    """A command: what its help says, which options it has, and what it does."""

    name: str
    summary: str
    """The command's line in `ctrail --help`."""
    description: str
    """What the command's own help says first."""
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    """Does the work and returns the exit code."""
    epilog: str = ""
    """What the command's own help says last: examples, and what is worth knowing."""


class Repeatable(argparse.Action):
    """An option that may be given several times.

    Unlike argparse's `append`, it leaves the default as it is, which may be a tuple.
    """

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        _option: str | None = None,
    ) -> None:
        """Add a value to the values that were given before."""
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or ()), values])


def add_json(parser: argparse.ArgumentParser, text: str) -> None:
    """Add `--json` with a help text."""
    parser.add_argument("--json", dest="as_json", action="store_true", help=text)


def add_selection(parser: argparse.ArgumentParser, title: str) -> None:
    """Add the options that select trails, accounts, regions and a time, by their log files."""
    group = parser.add_argument_group(
        title,
        "By default everything. Each option may be given several times; * and ? are wildcards.",
    )
    group.add_argument(
        "--trail", action=Repeatable, metavar="NAME", default=None, help="only these trails"
    )
    group.add_argument(
        "--exclude-trail", action=Repeatable, metavar="NAME", default=(), help="not these trails"
    )
    group.add_argument(
        "--account", action=Repeatable, metavar="ACCOUNT", default=(), help="only these accounts"
    )
    group.add_argument(
        "--exclude-account",
        action=Repeatable,
        metavar="ACCOUNT",
        default=(),
        help="not these accounts",
    )
    group.add_argument(
        "--region",
        action=Repeatable,
        metavar="REGION",
        default=(),
        help="only these regions, such as 'eu-*'",
    )
    group.add_argument(
        "--exclude-region",
        action=Repeatable,
        metavar="REGION",
        default=(),
        help="not these regions",
    )
    group.add_argument(
        "--partition",
        action=Repeatable,
        metavar="ACCOUNT/REGION",
        default=None,
        help="only these pairs of account and region",
    )
    group.add_argument("--since", metavar="6h", help="log files of the last 90m, 6h, 2d or 1w")
    group.add_argument("--start", metavar="TIME", help="log files from this time on (UTC)")
    group.add_argument("--end", metavar="TIME", help="log files before this time, plus an hour")


def selection_of(options: argparse.Namespace) -> "Selection":
    """Return what the options of `add_selection` select.

    Raises ConfigurationError for a bad time.
    """
    from ctrail_pipeline.config.times import parse_time, window_start
    from ctrail_pipeline.core.listing.selection import Selection

    return Selection(
        trails=options.trail,
        partitions=options.partition,
        start=window_start(options.start, options.since),
        end=None if options.end is None else parse_time("--end", options.end),
        exclude_trails=options.exclude_trail,
        accounts=options.account,
        exclude_accounts=options.exclude_account,
        regions=options.region,
        exclude_regions=options.exclude_region,
    )


def add_events(parser: argparse.ArgumentParser, title: str) -> None:
    """Add the options that choose events by account, region and time."""
    group = parser.add_argument_group(title, "By account, region and time of the events.")
    group.add_argument(
        "--account",
        action=Repeatable,
        metavar="ACCOUNT",
        default=(),
        help="only these accounts; * and ? are wildcards",
    )
    group.add_argument(
        "--region",
        action=Repeatable,
        metavar="REGION",
        default=(),
        help="only these regions, such as 'eu-*'",
    )
    group.add_argument("--since", metavar="6h", help="events of the last 90m, 6h, 2d or 1w")
    group.add_argument("--start", metavar="TIME", help="events from this time on (UTC)")
    group.add_argument("--end", metavar="TIME", help="events before this time")


def events_of(
    options: argparse.Namespace, *, event_id: str | None = None, event_name: str | None = None
) -> "Sought":
    """Return which events the options of `add_events` choose.

    Raises ConfigurationError for a bad time.
    """
    from ctrail_pipeline.config.times import parse_time, window_start
    from ctrail_pipeline.core.audit.sought import Sought

    return Sought(
        event_id=event_id,
        event_name=event_name,
        start=window_start(options.start, options.since),
        end=None if options.end is None else parse_time("--end", options.end),
        accounts=options.account,
        regions=options.region,
    )
