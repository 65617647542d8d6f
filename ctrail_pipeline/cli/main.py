"""`ctrail`: the same core without Dagster, for a shell, cron, or a person in a hurry.

Exit codes: 0 everything that was asked for was done; 1 something failed, and is named; 2 the
configuration or the call cannot be right. Here are the commands and their options; what a command
does is in a module of its own, imported when it is asked for: `ctrail --help` is there at once.
"""

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ctrail_pipeline import __version__

from .exit_codes import EXIT_CONFIGURATION, EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from ctrail_pipeline.core.audit.sought import Sought
    from ctrail_pipeline.core.listing.selection import Selection

_DESCRIPTION = """\
Brings AWS CloudTrail log files out of S3 and onto disk as JSON Lines:
every event once, byte for byte.

  ctrail generate-config      write config.json from the trails of your account
  ctrail sync --dry-run       what there is, and what bringing it in would cost
  ctrail sync --since 6h      the last hours first
  ctrail sync                 then everything; run it as often as you like
  ctrail status               how far each trail is, and what stands open
  ctrail verify               whether everything is here, as it was written
  ctrail explain EVENTID      where an event came from
  ctrail query "SELECT eventName, count(*) FROM events GROUP BY 1 ORDER BY 2 DESC LIMIT 20"

No AWS account at hand?  ctrail sample && ctrail sync
"""
_EPILOG = """\
Trails are read from config.json, or the file that CTRAIL_CONFIG names; without one, the sample is
used. Credentials are found as the AWS CLI finds them. Exit codes: 0 all done, 1 something failed
and is named, 2 the configuration or the call cannot be right.
ctrail COMMAND --help says more.
"""
_SYNC_EPILOG = """\
Progress and problems go to the standard error (a live display on a terminal), the outcome to the
standard output. Stop it with Ctrl-C: what is committed stays, and the next sync goes on from there.

  ctrail sync --since 6h --account 111122223333     an incident: what matters first
  ctrail sync --region 'eu-*' --exclude-trail test  a part; a later sync brings the rest
  ctrail sync --watch 5m --json >> syncs.jsonl      for ever, a line of JSON each round
"""
_STATUS_EPILOG = """\
  ctrail status --prometheus > ctrail.prom.new && mv ctrail.prom.new ctrail.prom
writes a file for node_exporter's textfile collector without a moment in which half of it is there.
"""
_VERIFY_EPILOG = """\
Days are UTC, by the time in the keys of log files; a window is widened to whole days. Missing log
files are noted for the next sync, which fetches them. What came in within the last hour is no loss.
Exit code: 0 all complete; 1 something is missing, failed, damaged or altered, or not listed.

  ctrail verify --since 7d                      the last week's log files and events
  ctrail verify --deep --html report.html       every byte of the output, and a page with a calendar
  ctrail sync && ctrail verify --json > verify.json
A listing costs a LIST request for 1,000 log files ($0.005 for a million). --deep reads all output.
"""
_EXPLAIN_EPILOG = """\
  ctrail explain 8a6d1f5c-1b0e-4d5c-9f43-0f6f0b7c2f10
  ctrail explain events/111122223333/eu-west-1/2026/01/13/03/events_00001.jsonl:17
  ctrail explain --event-name ConsoleLogin --since 7d --account 111122223333 --json
Events that share an eventID and not their bytes are all listed, with what they differ in.
"""
_MANIFEST_EPILOG = """\
  ctrail manifest --account 111122223333 --start 2026-01-13 --end 2026-01-14 --output case-17.jsonl
The last line has the SHA-256 over all bytes before it: sign it, or write it down elsewhere, and any
change of the list is seen. To check it: head -n -1 case-17.jsonl | sha256sum
The hashes are those of the files as they were written; ctrail verify --deep compares them.
"""
_PRUNE_EPILOG = """\
Only whole hours before the date go, by the time of the events. Nothing brings them back: the
ledger keeps which log files are done and which events there were. To have them again, name a new
events_dir and state_db. Quarantine is not touched.
"""
_REBUILD_EPILOG = """\
For when state.db was lost or is damaged and there is no backup; it is kept beside the new one. What
only it knew is gone: which log file each line came from, which log files are done (the next sync
reads all of them again and adds what is missing), and what was pruned (set `start` before that
sync, or it comes back).
"""
_COMPACT_EPILOG = """\
The JSONL files of an hour that has been over for 26 hours become one, or as few as events_per_file
allows; the Parquet files of such a day become files of about 128 MB. Lines are copied byte for byte
and compared with what was written. The merged file is there before the old ones go: who lists a
folder in that moment may see events twice, and never misses one. Safe to stop at any moment, and
beside running syncs; once a day is often enough.
"""
_QUERY_EPILOG = """\
The view `events` has a column for each field of a CloudTrail record (nested ones as JSON), and
account, region, date and hour from the path: conditions on these read only the files they need.

                WHERE date = '2026-01-15' AND region = 'eu-west-1' GROUP BY 1 ORDER BY n DESC"
  ctrail query --csv "SELECT eventTime, userIdentity->>'arn' FROM events WHERE errorCode <> ''"
"""

_Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    _log_to_stderr(options.quiet, options.verbose)
    from ctrail_pipeline.core.exceptions import ConfigurationError, CtrailError

    command: _Command = options.run
    try:
        return command(options)
    except ConfigurationError as error:
        print(f"ctrail: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION
    except CtrailError as error:
        print(f"ctrail: {error}", file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:  # `ctrail … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


# --- Commands -------------------------------------------------------------------------------------


def _sync(options: argparse.Namespace) -> int:
    from ctrail_pipeline.config.file import load_config, parse_duration

    from .sync import Shown, dry_run, run_sync

    watch = None if options.watch is None else parse_duration("--watch", options.watch)
    settings = load_config().settings
    live = not (options.quiet or options.plain or options.as_json) and _is_terminal()
    shown = Shown(options.as_json, live)
    select = partial(_selection, options)
    if options.dry_run:
        return dry_run(settings, select(), shown)
    return run_sync(settings, select, shown, watch)


def _selection(options: argparse.Namespace) -> "Selection":
    from ctrail_pipeline.config.file import parse_time, window_start
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


def _status(options: argparse.Namespace) -> int:
    import json

    from ctrail_pipeline.config.file import load_config
    from ctrail_pipeline.reports.status import as_json, as_prometheus, as_table, notes, read_status

    status = read_status(load_config().settings)
    if options.as_json:
        print(json.dumps(as_json(status)))
    elif options.prometheus:
        print(as_prometheus(status), end="")
    else:
        from rich.console import Console

        console = Console() if sys.stdout.isatty() else Console(width=200)
        if status.partitions:
            console.print(as_table(status))
        for note in notes(status):
            console.print(note, markup=False, highlight=False)
    return EXIT_OK


def _verify(options: argparse.Namespace) -> int:
    from ctrail_pipeline.config.file import load_config

    from .verify import run_verify

    settings = load_config().settings
    return run_verify(
        settings,
        _selection(options),
        deep=options.deep,
        show_json=options.as_json,
        html=options.html,
    )


def _explain(options: argparse.Namespace) -> int:
    from ctrail_pipeline.config.file import load_config
    from ctrail_pipeline.core.exceptions import ConfigurationError

    from .explain import run_explain

    settings = load_config().settings
    sought = _sought(options)
    what = options.event
    is_line = what is not None and ".jsonl:" in what
    if not (what or sought.event_name or sought.start or sought.end):
        raise ConfigurationError("explain: give an eventID, a line of a file, a name or a time")
    return run_explain(
        settings,
        sought,
        what if is_line else None,
        most=options.limit,
        fetch=options.fetch,
        show_json=options.as_json,
    )


def _manifest(options: argparse.Namespace) -> int:
    from ctrail_pipeline.config.file import load_config

    from .manifest import run_manifest

    return run_manifest(load_config().settings, _sought(options), options.output)


def _sought(options: argparse.Namespace) -> "Sought":
    from ctrail_pipeline.config.file import parse_time, window_start
    from ctrail_pipeline.core.audit.sought import Sought

    what = getattr(options, "event", None)
    return Sought(
        event_id=None if what is None or ".jsonl:" in what else what,
        event_name=getattr(options, "event_name", None),
        start=window_start(options.start, options.since),
        end=None if options.end is None else parse_time("--end", options.end),
        accounts=options.account,
        regions=options.region,
    )


def _prune(options: argparse.Namespace) -> int:
    from ctrail_pipeline.config.file import load_config, parse_time
    from ctrail_pipeline.core.upkeep.prune import prune
    from ctrail_pipeline.reports.status import size

    before = parse_time("--before", options.before)
    done = prune(load_config().settings, before, dry_run=options.dry_run)
    verb = "would be removed" if options.dry_run else "removed"
    print(
        f"{verb}: {done.files:,} output files, {done.lines:,} events, {size(done.bytes)}, of hours"
        f" before {before:%Y-%m-%d %H:00} UTC"
    )
    return EXIT_OK


def _rebuild(options: argparse.Namespace) -> int:
    from ctrail_pipeline.config.file import load_config
    from ctrail_pipeline.core.upkeep.rebuild import rebuild

    settings = load_config().settings
    done = rebuild(settings, force=options.force)
    for problem in done.problems:
        print(problem, file=sys.stderr)
    if done.problem_count > len(done.problems):
        print(f"… and {done.problem_count - len(done.problems):,} more", file=sys.stderr)
    doubled = f"; {done.doubled:,} lines are there twice" if done.doubled else ""
    if done.left_over:
        doubled += (
            f"; {done.left_over:,} files that an interrupted compaction left are removed: other"
            " files hold all their lines"
        )
    if done.parquet_repaired:
        doubled += f"; the Parquet of {done.parquet_repaired:,} dates holds their events again"
    print(
        f"{settings.state_db}: rebuilt from {done.files:,} files with {done.events:,} events and"
        f" {done.quarantined:,} entries of quarantine{doubled}. Now `ctrail sync`: it reads all log"
        " files once more and adds what is missing"
    )
    return EXIT_FAILED if done.problem_count or done.doubled else EXIT_OK


def _compact(options: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from ctrail_pipeline.config.file import load_config
    from ctrail_pipeline.core.upkeep.compaction import compact
    from ctrail_pipeline.reports.sentences import compaction_line

    done = compact(load_config().settings, dry_run=options.dry_run)
    if options.as_json:
        print(json.dumps({"ok": not done.problems, "dry_run": options.dry_run, **asdict(done)}))
    else:
        print(compaction_line(done, dry_run=options.dry_run))
    return EXIT_FAILED if done.problems else EXIT_OK


def _query(options: argparse.Namespace) -> int:
    from ctrail_pipeline.config.file import load_config

    from .query import run_query

    sql = options.sql if options.sql is not None else sys.stdin.read()
    run_query(load_config().settings, sql, options.form)
    return EXIT_OK


def _sample(options: argparse.Namespace) -> int:
    from ctrail_pipeline.sample.bucket import main as write_sample

    arguments = [str(options.folder), "--log-files", str(options.log_files)]
    return write_sample(arguments + (["--force"] if options.force else []))


def _generate_config(options: argparse.Namespace) -> int:
    from ctrail_pipeline.config.generate import generate_config

    path = options.path or Path(os.environ.get("CTRAIL_CONFIG") or "config.json")
    trails, unasked = generate_config(
        path, force=options.force, profile=options.profile, regions=options.region
    )
    for trail in trails:
        print(trail)
    print(f"{path}: written. What it would bring in and cost: ctrail sync --dry-run")
    return EXIT_FAILED if unasked else EXIT_OK


# --- Options --------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ctrail",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ctrail {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: _Command, text: str, more: str, epilog: str = "") -> _Parser:
        added = commands.add_parser(
            name,
            help=text,
            description=more,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(run=run)
        loudness = added.add_mutually_exclusive_group()
        loudness.add_argument("-v", "--verbose", action="store_true", help="say more")
        loudness.add_argument("-q", "--quiet", action="store_true", help="warnings and errors only")
        return added

    _add_sync(
        command(
            "sync",
            _sync,
            "bring in everything that is new",
            "Brings in everything that is new, newest first. Safe to stop at any moment and to\n"
            "run as often as you like: what is there already is not fetched again.",
            _SYNC_EPILOG,
        )
    )
    status = command(
        "status",
        _status,
        "how far each trail is, and what stands open",
        "How far each account and region of each trail is, from the ledger alone: nothing is\n"
        "listed, nothing is written. Lag is the age of the newest log file that is done.",
        _STATUS_EPILOG,
    )
    form = status.add_mutually_exclusive_group()
    form.add_argument("--json", dest="as_json", action="store_true", help="as one JSON object")
    form.add_argument("--prometheus", action="store_true", help="as Prometheus metrics")
    _add_verify(
        command(
            "verify",
            _verify,
            "whether everything is here, as it was written",
            "Lists the buckets and compares them with the ledger by account, region and day, and\n"
            "the ledger with the output on disk. Says what is missing, failed, damaged or altered.",
            _VERIFY_EPILOG,
        )
    )
    _add_explain(
        command(
            "explain",
            _explain,
            "where an event came from",
            "Says of an event which line it is, which log file it came from (bucket, key, etag,\n"
            "SHA-256), and when which run committed it.",
            _EXPLAIN_EPILOG,
        )
    )
    _add_manifest(
        command(
            "manifest",
            _manifest,
            "a list of output files, hashes and sources for a case file",
            "Writes a list (JSON Lines) of output files with their hashes, counts and the log\n"
            "files that their lines came from, as the ledger has them at one moment.",
            _MANIFEST_EPILOG,
        )
    )
    query = command(
        "query",
        _query,
        "SQL over the events, through DuckDB (an extra)",
        "Runs SQL over the events on disk. Needs the extra: pip install 'ctrail-pipeline[query]'",
        _QUERY_EPILOG,
    )
    query.add_argument("sql", nargs="?", metavar="SQL", help="else read from the standard input")
    form = query.add_mutually_exclusive_group()
    for name in ("csv", "json"):
        form.add_argument(
            f"--{name}", dest="form", action="store_const", const=name, help=f"as {name.upper()}"
        )
    query.set_defaults(form="table")
    prune = command(
        "prune",
        _prune,
        "remove old output, for good",
        "Removes the events of hours before a date from the disk, and notes that in the ledger.",
        _PRUNE_EPILOG,
    )
    prune.add_argument(
        "--before", metavar="DATE", required=True, help="a date or time (UTC), such as 2026-01-31"
    )
    prune.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    rebuilding = command(
        "rebuild",
        _rebuild,
        "make a new ledger of the output, if it was lost",
        "Makes a new ledger of what lies in events_dir and quarantine_dir.",
        _REBUILD_EPILOG,
    )
    rebuilding.add_argument(
        "--force", action="store_true", help="even if the ledger that is there is sound"
    )
    compact = command(
        "compact",
        _compact,
        "merge the small files of hours that are over",
        "Merges the many small files of hours and days that are over. No event is changed.",
        _COMPACT_EPILOG,
    )
    compact.add_argument("--dry-run", action="store_true", help="only say what would be merged")
    compact.add_argument(
        "--json", dest="as_json", action="store_true", help="the outcome as a line of JSON"
    )
    _add_sample(
        command(
            "sample",
            _sample,
            "write a sample bucket to try it with",
            "Writes a folder that holds two buckets of an invented organization, always the same.\n"
            "Without a config.json, `ctrail sync` brings them in.",
        )
    )
    _add_generate_config(
        command(
            "generate-config",
            _generate_config,
            "write config.json from the trails of your account",
            "Asks CloudTrail, in every region, which trails there are, and writes a configuration\n"
            "file. Needs cloudtrail:DescribeTrails.",
        )
    )
    return parser


_Parser = argparse.ArgumentParser


def _add_sync(command: _Parser) -> None:
    _add_selection(command, "what to bring in")
    how = command.add_argument_group("how")
    how.add_argument(
        "--dry-run", action="store_true", help="only list: what there is, and what it would cost"
    )
    often = how.add_mutually_exclusive_group()
    often.add_argument("--once", action="store_true", help="one round, the default")
    often.add_argument(
        "--watch", metavar="5m", help="again and again, a round begins so long after the last did"
    )
    how.add_argument(
        "--json", dest="as_json", action="store_true", help="the outcome as a line of JSON"
    )
    how.add_argument("--plain", action="store_true", help="log lines, on a terminal too")


def _add_selection(command: _Parser, title: str) -> None:
    chosen = command.add_argument_group(
        title,
        "By default everything. Each may be given several times; * and ? are wildcards.",
    )
    _add_list(chosen, "--trail", "NAME", "only these trails", default=None)
    _add_list(chosen, "--exclude-trail", "NAME", "not these")
    _add_list(chosen, "--account", "ACCOUNT", "only these accounts")
    _add_list(chosen, "--exclude-account", "ACCOUNT", "not these")
    _add_list(chosen, "--region", "REGION", "only these regions, such as 'eu-*'")
    _add_list(chosen, "--exclude-region", "REGION", "not these")
    _add_list(chosen, "--partition", "ACCOUNT/REGION", "only these pairs", default=None)
    chosen.add_argument("--since", metavar="6h", help="log files of the last 90m, 6h, 2d or 1w")
    chosen.add_argument("--start", metavar="TIME", help="log files from this time on (UTC)")
    chosen.add_argument("--end", metavar="TIME", help="log files before this time (plus an hour)")


def _add_verify(command: _Parser) -> None:
    _add_selection(command, "what to compare")
    how = command.add_argument_group("how")
    how.add_argument(
        "--deep", action="store_true", help="read every output file: its SHA-256 and its lines"
    )
    how.add_argument("--json", dest="as_json", action="store_true", help="as one JSON object")
    how.add_argument(
        "--html", type=Path, metavar="FILE", help="write a page with a calendar of days, too"
    )


def _add_explain(command: _Parser) -> None:
    command.add_argument(
        "event",
        nargs="?",
        metavar="EVENTID | FILE:LINE",
        help="an eventID, or a line of an output file",
    )
    _add_events(command, "which events")
    command.add_argument("--event-name", metavar="NAME", help="events of this eventName")
    command.add_argument(
        "--limit", type=int, default=20, metavar="N", help="explain so many at most (20)"
    )
    command.add_argument(
        "--fetch",
        action="store_true",
        help="fetch the log file: the record's index in it, and which others hold a copy",
    )
    command.add_argument(
        "--json", dest="as_json", action="store_true", help="a JSON object for each event"
    )


def _add_manifest(command: _Parser) -> None:
    _add_events(command, "which output files, by whole hours")
    command.add_argument(
        "--output", type=Path, metavar="FILE", help="a new file; else the standard output"
    )


def _add_events(command: _Parser, title: str) -> None:
    chosen = command.add_argument_group(title, "By account, region and time of the events.")
    _add_list(chosen, "--account", "ACCOUNT", "only these accounts; * and ? are wildcards")
    _add_list(chosen, "--region", "REGION", "only these regions, such as 'eu-*'")
    chosen.add_argument("--since", metavar="6h", help="events of the last 90m, 6h, 2d or 1w")
    chosen.add_argument("--start", metavar="TIME", help="events from this time on (UTC)")
    chosen.add_argument("--end", metavar="TIME", help="events before this time")


def _add_sample(command: _Parser) -> None:
    command.add_argument(
        "folder", nargs="?", type=Path, default=Path("sample"), help="default: sample"
    )
    command.add_argument("--log-files", type=int, default=1500, metavar="N", help="how many (1500)")
    command.add_argument("--force", action="store_true", help="replace a folder that is there")


def _add_generate_config(command: _Parser) -> None:
    command.add_argument(
        "path", nargs="?", type=Path, help="default: what CTRAIL_CONFIG names, else config.json"
    )
    command.add_argument("--force", action="store_true", help="replace a file that is there")
    command.add_argument("--profile", metavar="NAME", help="a profile of ~/.aws/config")
    _add_list(command, "--region", "REGION", "ask only there; may be given several times")


def _add_list(
    group: "argparse._ActionsContainer",
    option: str,
    metavar: str,
    text: str,
    default: tuple[str, ...] | None = (),
) -> None:
    group.add_argument(option, action=_Append, metavar=metavar, help=text, default=default)


class _Append(argparse.Action):
    """`append`, which cannot have a tuple as its default."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        _option: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or ()), values])


# --- Where it is said -----------------------------------------------------------------------------


def _is_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def _log_to_stderr(quiet: bool, verbose: bool) -> None:
    handler = logging.StreamHandler()
    formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logger = logging.getLogger("ctrail_pipeline")
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
