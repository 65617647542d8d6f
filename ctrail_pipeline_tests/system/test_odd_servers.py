"""No answer of a server makes a sync say success while something is missing.

Each odd answer is given to every LIST of a day's folder, or to every GET of one log file, by a
server that is otherwise sound. docs/odd-servers.md has the table of what comes of it, which is
compared here row by row. Then the server is sound, and the next sync brings in everything.
"""

import json
import logging
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from ctrail_pipeline.cli.exit_codes import EXIT_OK
from ctrail_pipeline.cli.sync_rounds import OutcomeForm, run_sync
from ctrail_pipeline.core.audit.verify import verify
from ctrail_pipeline.core.bucket import s3, s3_listing, s3_retry
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline_tests.support.fault_server import FaultServer
from ctrail_pipeline_tests.support.hostile_log_files import FOLDER, NOON, packed, record
from ctrail_pipeline_tests.support.odd_answers import (
    GETS,
    LISTS,
    Odd,
    Right,
    contents,
    empty_list,
    twins,
)
from ctrail_pipeline_tests.support.oracle import snapshot
from ctrail_pipeline_tests.support.project import PROJECT
from ctrail_pipeline_tests.support.sync_process import put_object, settings_in
from ctrail_pipeline_tests.support.sync_process import run_sync as run_sync_process

DOCUMENT: Final = PROJECT / "docs/odd-servers.md"
CLIENTS: Final = ("libcurl", "boto3")
LOG_FILES: Final = 6
EXPECTED: Final = {record(number) for number in range(LOG_FILES)}
KEYS: Final = [f"{FOLDER}x_20260110T12{number:02}Z_{number}.json.gz" for number in range(LOG_FILES)]
NOT_TRIED: Final = {
    # botocore reads a whole list before it hands it out, and knows no limit of bytes or seconds.
    ("LIST", "boto3", "an answer that never ends"),
    ("LIST", "boto3", "a byte now and then"),
    ("GET", "boto3", "a byte now and then"),
}


class Case(NamedTuple):
    """An odd answer, to which requests it is given, and which client makes them."""

    request: str
    client: str
    odd: Odd

    @property
    def is_quick(self) -> bool:
        """Whether `make test` has this case: libcurl's, if a status does not give it away."""
        looks_right = self.odd.name.startswith("200") or not (
            self.odd in LISTS and self.odd in GETS
        )
        return self.client == "libcurl" and looks_right


CASES: Final = [
    Case(request, client, odd)
    for request, answers in (("LIST", LISTS), ("GET", GETS))
    for client in CLIENTS
    for odd in answers
    if (request, client, odd.name) not in NOT_TRIED
]


class Outcome(NamedTuple):
    """What a person sees of a sync."""

    exit_code: int
    says: str


class World:
    """A sound server with six log files in a day's folder, and settings to sync from it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for number, key in enumerate(KEYS):
            put_object(folder / "buckets/logs", key, packed(record(number)), NOON)
        # Four keys a page, so that the day has a LIST of its own.
        self.server = FaultServer(folder / "buckets", page_keys=4)
        for name, value in self.server.env().items():
            monkeypatch.setenv(name, value)
        trail = Trail("logs", "logs", "", "us-east-1", self.server.endpoint_url)
        self.settings = settings_in(folder, [trail], process_workers=1)
        self.released = threading.Event()

    def give(self, case: Case) -> None:
        """Answer in the odd way from now on."""

        def take_over(handler: Any, status: int, headers: dict[str, str], body: bytes) -> bool:
            parts = urlsplit(handler.path)
            prefix = parse_qs(parts.query).get("prefix", [""])[0]
            is_list = case.request == "LIST" and prefix == FOLDER
            is_get = case.request == "GET" and unquote(parts.path) == f"/logs/{KEYS[3]}"
            if not is_list and not (is_get and status == 200 and "Range" not in handler.headers):
                return False
            right = Right(handler, headers, body, self.released)
            by_boto3 = "Botocore" in handler.headers["User-Agent"]
            if by_boto3 == (case.client == "boto3"):
                case.odd.answer(right)
            elif is_list and not by_boto3:
                empty_list(right)  # so that boto3 is asked
            else:
                return False
            return True

        self.server.take_over = take_over

    def heal(self) -> None:
        """Answer rightly from now on, and let all visits be due, as if a day had passed."""
        self.released.set()
        self.server.take_over = lambda *_: False
        with closing(sqlite3.connect(self.settings.state_db)) as ledger, ledger:
            ledger.execute("UPDATE log_file SET next_visit = 0 WHERE next_visit IS NOT NULL")

    def sync(self, settings: Settings, capsys: Any, caplog: pytest.LogCaptureFixture) -> Outcome:
        caplog.clear()
        exit_code = run_sync(settings, Selection, OutcomeForm(as_json=True))
        summary = json.loads(capsys.readouterr().out)
        says = [f"{item['state']}: {item['reason']}" for item in summary["problems"]]
        says += [entry.getMessage() for entry in caplog.records if entry.module == "s3_listing"]
        return Outcome(exit_code, "; ".join(dict.fromkeys(map(shown, says))) or "–")

    @property
    def is_complete(self) -> bool:
        """Whether every event is there; none may ever be there that is not expected."""
        lines = snapshot(self.settings.events_dir)
        assert lines <= EXPECTED
        return lines == EXPECTED


def shown(text: str) -> str:
    """What sync says, without the names of this test's bucket and server."""
    return re.sub(r"s3://logs(/[^\s:]+)?", "s3://…", text.replace(" at 127.0.0.1", ""))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(s3_retry, "FIRST_PAUSE_SECONDS", 0.0001)
    monkeypatch.setattr(s3_listing, "VAIN_ANSWERS", 20)
    world = World(tmp_path, monkeypatch)
    with world.server:
        yield world
        world.released.set()


def table() -> list[list[str]]:
    """The rows of the document's table, split into cells, with a row for each client."""
    lines = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]
    return [
        [*cells[:2], client, *cells[3:]]
        for cells in rows
        for client in (CLIENTS if cells[2] == "both" else (cells[2],))
    ]


def row(case: Case, outcome: Outcome, *, is_complete: bool) -> list[str]:
    return [
        case.request,
        case.odd.name,
        case.client,
        outcome.says.replace("|", "/"),
        str(outcome.exit_code),
        "yes" if is_complete else "after the next sync",
    ]


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[] if case.is_quick else [pytest.mark.thorough]) for case in CASES],
    ids=lambda case: f"{case.request} {case.client} {case.odd.name}",
)
def test_no_answer_makes_a_sync_say_success_while_something_is_missing(
    case: Case,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="ctrail_pipeline")
    if case.request == "GET" and case.client == "boto3":
        monkeypatch.setattr(s3, "can_ask_for", lambda _wanted: False)
    world.give(case)
    settings = replace(world.settings, client_timeout=case.odd.client_timeout)
    outcome = world.sync(settings, capsys, caplog)
    is_complete = world.is_complete
    if outcome.exit_code == EXIT_OK and not is_complete:
        # An archived log file does not fail a run. A folder that is empty to both clients cannot
        # be told from one that expired meanwhile. Both are said.
        assert "archived: " in outcome.says or "is empty, although" in outcome.says
    expected_row = row(case, outcome, is_complete=is_complete)
    assert expected_row in table(), f"not in {DOCUMENT.name}: | {' | '.join(expected_row)} |"
    world.heal()
    assert world.sync(world.settings, capsys, caplog).exit_code == EXIT_OK
    assert world.is_complete


def test_a_log_file_that_is_listed_twice_counts_once(
    world: World, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A server that begins anew instead of going on behind a key shows the first keys again."""
    pages: list[bytes] = []

    def begin_anew(handler: Any, _status: int, headers: dict[str, str], body: bytes) -> bool:
        query = parse_qs(urlsplit(handler.path).query)
        if query.get("prefix") != [FOLDER]:
            return False
        pages.append(body)
        if "start-after" not in query:
            return False
        Right(handler, headers, body, world.released).send(body=pages[0])
        return True

    world.server.take_over = begin_anew
    assert world.sync(world.settings, capsys, caplog).exit_code == EXIT_OK
    assert world.is_complete
    with closing(sqlite3.connect(world.settings.state_db)) as ledger:
        [(counted, rows)] = ledger.execute(
            "SELECT log_files, (SELECT count(*) FROM log_file) FROM source_prefix"
        )
    assert counted == rows == LOG_FILES


def test_the_document_has_a_row_for_each_case() -> None:
    assert sorted(cells[:3] for cells in table()) == sorted(
        [case.request, case.odd.name, case.client] for case in CASES
    )


def test_an_object_with_a_slash_at_its_end_beside_each_log_file_costs_nothing(
    world: World, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """One such object ended a run with worker processes, or was new in every run."""

    def take_over(handler: Any, _status: int, headers: dict[str, str], body: bytes) -> bool:
        is_list = b"<Contents>" in body
        if is_list:
            contents(twins)(Right(handler, headers, body, world.released))
        return is_list

    world.server.take_over = take_over
    ended = run_sync_process(replace(world.settings, process_workers=2), in_workers=True)
    assert (ended.returncode, ended.summary["log_files"]) == (EXIT_OK, LOG_FILES)
    assert world.is_complete
    assert world.sync(world.settings, capsys, caplog).exit_code == EXIT_OK
    report = verify(world.settings)
    assert report.is_complete
    assert report.queued == 0
    assert set(world.server.counts.gets.values()) == {1}
