"""A log file that stands open is settled by a person, and is open again when it has to be."""

import json
import os
import pickle
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ctrail_pipeline.core.audit.compare import compare
from ctrail_pipeline.core.audit.compare_report import COUNTS, Report
from ctrail_pipeline.core.audit.findings import FindingKind, HourState
from ctrail_pipeline.core.exceptions import ConfigurationError, LedgerError, OutputError
from ctrail_pipeline.core.ledger.rows import LogFileState
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep.accept import Settled, accept, accepted, undo
from ctrail_pipeline.core.upkeep.accept_choice import Chosen, Standing
from ctrail_pipeline.core.upkeep.accepted_file import ACCEPTED_FILE
from ctrail_pipeline.core.upkeep.rebuild import rebuild
from ctrail_pipeline_tests.support.open_log_files import WRITTEN_AT, OpenLogFiles
from ctrail_pipeline_tests.support.project import PROJECT
from ctrail_pipeline_tests.support.standing import standing
from ctrail_pipeline_tests.support.two_trails import event

STATES = [LogFileState.DAMAGED, LogFileState.GONE, LogFileState.FAILED]
each_state = pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
ALL = ("file://*",)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenLogFiles:
    return OpenLogFiles(tmp_path, monkeypatch)


def settle(world: OpenLogFiles, *addresses: str, reason: str = "lost for good") -> Settled:
    return accept(world.settings, Chosen(addresses), reason, "me")


def shown(world: OpenLogFiles, *addresses: str) -> list[tuple[str, LogFileState, str, str]]:
    return [
        (address, one.state, one.reason, one.by)
        for address, one in accepted(world.settings, Chosen(addresses))
    ]


def decisions(world: OpenLogFiles) -> list[dict[str, Any]]:
    path = world.settings.quarantine_dir / ACCEPTED_FILE.name
    return [json.loads(line) for line in path.read_text().splitlines()]


def findings(report: Report) -> list[FindingKind]:
    return [finding.kind for finding in report.findings]


def totals(report: Report) -> dict[str, int]:
    return {name: report.total(name) for name in COUNTS if report.total(name)}


@each_state
def test_what_is_accepted_fails_no_sync_and_is_not_tried_again(
    world: OpenLogFiles, state: LogFileState
) -> None:
    path = world.opened(state)
    done = settle(world, world.address(path))
    assert (done.log_files, [address for address, _ in done.named]) == (1, [world.address(path)])
    assert world.rows() == [(state, 1, False)]
    assert shown(world) == [(world.address(path), state, "lost for good", "me")]
    summary = world.sync()
    assert summary.ok
    assert not standing(summary)
    assert world.rows() == [(state, 1, False)]


@each_state
def test_verify_names_it_in_a_note_and_its_hour_stays_open(
    world: OpenLogFiles, state: LogFileState
) -> None:
    path = world.opened(state)
    settle(world, world.address(path))
    report = compare(world.settings, deep=True)
    assert report.is_complete
    assert findings(report) == [FindingKind.LOG_FILE_ACCEPTED]
    [finding] = report.findings
    assert finding.where == world.address(path)
    assert "accepted as" in finding.detail
    assert finding.detail.endswith("UTC: lost for good")
    listed = 1 + path.exists()
    assert totals(report) == {"listed": listed, "committed": 1, "accepted": 1}
    [prefix] = report.prefixes
    assert prefix.hours_by_state()[HourState.OPEN] >= 1


def test_one_that_is_there_again_is_brought_in(world: OpenLogFiles) -> None:
    path = world.opened(LogFileState.GONE)
    settle(world, world.address(path))
    world.put("B", event("of B"))
    report = compare(world.settings)
    assert not report.is_complete, "there is something to bring in"
    assert world.rows() == [(LogFileState.FOUND, 0, True)]
    assert world.sync().ok
    assert world.rows() == []
    assert shown(world) == []
    world.assert_whole()


@pytest.mark.parametrize("look", [sync, compare], ids=["sync lists it", "verify lists it"])
def test_a_new_version_ends_it(world: OpenLogFiles, look: Callable[[Settings], object]) -> None:
    path = world.opened(LogFileState.DAMAGED)
    settle(world, world.address(path))
    path.write_bytes(path.read_bytes()[:-1])
    os.utime(path, (WRITTEN_AT + 1,) * 2)
    look(world.settings)
    assert [accepted for _, accepted, _ in world.rows()] == [0]
    assert not compare(world.settings).is_complete
    world.put("B", event("of B"))
    assert world.sync().ok
    world.assert_whole()


@pytest.mark.parametrize("state", [LogFileState.FAILED, LogFileState.GONE])
def test_a_new_version_that_cannot_be_read_either_stands_open(
    world: OpenLogFiles, state: LogFileState
) -> None:
    """Its state was that of the accepted version, and its visit learned no other version."""
    path = world.opened(state)
    settle(world, world.address(path))
    world.put("B", event("of B"), event("more of B"))
    assert not compare(world.settings).is_complete
    path.unlink()
    if state is LogFileState.FAILED:
        world.put("B", event("of B"), event("more of B"))
    for _ in range(2):
        assert not world.sync().ok
        assert [(state, accepted) for state, accepted, _ in world.rows()] == [(state, 0)]
        assert not compare(world.settings).is_complete
    assert shown(world) == []


def test_the_earlier_version_is_not_accepted_by_itself_later(world: OpenLogFiles) -> None:
    path = world.opened(LogFileState.DAMAGED)
    damaged, written = path.read_bytes(), path.stat().st_mtime
    settle(world, world.address(path))
    world.put("B", event("of B"))
    assert world.sync().ok
    path.write_bytes(damaged)
    os.utime(path, (written, written))
    world.sync()
    assert world.rows() == [(LogFileState.DAMAGED, 0, True)]


@each_state
def test_undone_it_stands_open_and_is_tried_at_once(
    world: OpenLogFiles, state: LogFileState
) -> None:
    path = world.opened(state)
    settle(world, world.address(path))
    done = undo(world.settings, Chosen([world.address(path)]), "a mistake", "somebody else")
    assert done.log_files == 1
    assert world.rows() == [(state, 0, True)]
    assert shown(world) == []
    assert not world.sync().ok, "it was tried"
    assert [(line["decision"], line["by"], line["reason"]) for line in decisions(world)] == [
        ("accepted", "me", "lost for good"),
        ("undone", "somebody else", "a mistake"),
    ]


def test_what_does_not_stand_open_is_refused_with_what_to_do(world: OpenLogFiles) -> None:
    damaged = world.opened(LogFileState.DAMAGED)
    found = world.opened(LogFileState.FOUND, "F")
    sound = world.put("A", event("sound"))
    for path, words in [
        (found, "found and not fetched yet: run `ctrail sync` first"),
        (sound, "no such log file stands open"),
        (sound.with_name("nothing"), "no such log file stands open"),
    ]:
        with pytest.raises(ConfigurationError, match=words):
            settle(world, world.address(damaged), world.address(path))
    with pytest.raises(ConfigurationError, match="begins with s3:// or file://"):
        settle(world, str(damaged))
    with pytest.raises(ConfigurationError, match="no such log file is accepted"):
        undo(world.settings, Chosen([world.address(damaged)]))
    with pytest.raises(ConfigurationError, match="name log files"):
        settle(world)
    assert [accepted for _, accepted, _ in world.rows()] == [0, 0], "nothing is half done"
    done = settle(world, f"{world.bucket.as_uri()}/*")
    assert (done.log_files, done.others) == (1, {Standing.WAITING: 1})
    again = settle(world, world.address(damaged))
    assert (again.log_files, again.others) == (0, {Standing.ACCEPTED: 1})
    assert len(decisions(world)) == 1


@pytest.mark.parametrize("reason", ["", "  ", "a\nb", "\x1b[2J", "x" * 1_001])
def test_a_reason_is_one_line_that_people_can_read(world: OpenLogFiles, reason: str) -> None:
    path = world.opened(LogFileState.DAMAGED)
    with pytest.raises(ConfigurationError, match="reason: give one line of 1 to 1,000 printable"):
        settle(world, world.address(path), reason=reason)


def test_wildcards_choose_and_only_by_the_whole_address(world: OpenLogFiles) -> None:
    paths = [world.damage(suffix) for suffix in ("B", "CX", "CY")]
    world.sync()
    folder = world.address(paths[0]).rpartition("/")[0]
    assert settle(world, f"{folder}/*C?.json.gz").log_files == 2
    assert [address for address, *_ in shown(world)] == [world.address(path) for path in paths[1:]]
    assert settle(world, *ALL).log_files == 1
    assert [address for address, *_ in shown(world, "file://*CX.json.gz")] == [
        world.address(paths[1])
    ]


def test_a_key_with_control_characters_is_named_as_messages_print_it(world: OpenLogFiles) -> None:
    path = world.damage("B")
    odd = path.rename(path.with_name("a\x1b\nb.json.gz"))
    world.sync()
    printed = world.address(odd).replace("\x1b\n", "\\u001b\\n")
    assert settle(world, printed).log_files == 1
    assert undo(world.settings, Chosen([printed.replace("\\u001b\\n", "??")])).log_files == 1
    assert settle(world, printed.replace("\\u001b", "*")).log_files == 1


@pytest.mark.parametrize("is_damaged", [True, False], ids=["damaged", "committed"])
def test_a_key_that_looks_as_another_is_printed_means_itself_alone(
    world: OpenLogFiles, is_damaged: bool
) -> None:
    path = world.damage("B")
    path.rename(path.with_name("a\x1b.json.gz"))
    planted = world.damage("C") if is_damaged else world.put("C", event("of C"))
    planted = planted.rename(planted.with_name("a\\u001b.json.gz"))
    world.sync()
    if is_damaged:
        assert settle(world, world.address(planted)).log_files == 1
        assert [address for address, *_ in shown(world)] == [world.address(planted)]
    else:
        with pytest.raises(ConfigurationError, match="no such log file stands open"):
            settle(world, world.address(planted))
    assert settle(world, world.address(planted).replace("\\u001b", "?")).log_files == 1


@pytest.mark.parametrize("is_damaged", [True, False], ids=["damaged", "committed"])
def test_a_key_with_a_wildcard_means_itself_alone(world: OpenLogFiles, is_damaged: bool) -> None:
    """Who writes to the bucket cannot have other log files accepted by whoever pastes a key."""
    world.damage("B")
    planted = world.damage("C") if is_damaged else world.put("C", event("of C"))
    planted = planted.rename(planted.with_name("*.json.gz"))
    world.sync()
    if is_damaged:
        assert settle(world, world.address(planted)).log_files == 1
        assert [address for address, *_ in shown(world)] == [world.address(planted)]
    else:
        with pytest.raises(ConfigurationError, match="no such log file stands open"):
            settle(world, world.address(planted))


def test_damaged_log_files_before_a_day(world: OpenLogFiles) -> None:
    damaged = world.damage("B")
    later = world.damage("C")
    folder = later.parent.parent / "11"
    folder.mkdir()
    later = later.rename(folder / later.name.replace("20260110T", "20260111T"))
    nowhere = world.damage("D")
    nowhere.rename(nowhere.parents[3] / nowhere.name)
    world.opened(LogFileState.FAILED, "F")
    day = datetime(2026, 1, 11, tzinfo=UTC)
    assert accept(world.settings, Chosen((), day.replace(day=10)), "bad disk").log_files == 0
    assert accept(world.settings, Chosen(ALL, day), "bad disk", dry_run=True).log_files == 1
    assert shown(world) == []
    assert accept(world.settings, Chosen((), day), "bad disk").log_files == 1
    assert [address for address, *_ in shown(world)] == [world.address(damaged)]


def test_who_accepts_is_the_systems_user_by_default(world: OpenLogFiles) -> None:
    path = world.opened(LogFileState.DAMAGED)
    accept(world.settings, Chosen([world.address(path)]), "lost")
    [(*_, by)] = shown(world)
    assert by.endswith(f"@{os.uname().nodename}")
    assert len(by) > len(f"@{os.uname().nodename}")


def test_the_file_of_acceptances_is_private_and_no_foreign_file(world: OpenLogFiles) -> None:
    path = world.opened(LogFileState.DAMAGED)
    settle(world, world.address(path))
    file = world.settings.quarantine_dir / ACCEPTED_FILE.name
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    [line] = decisions(world)
    assert line["bucket"] == world.bucket.as_uri()
    assert line["key"] == str(path.relative_to(world.bucket))
    assert (line["decision"], line["state"], line["by"]) == ("accepted", "damaged", "me")
    report = compare(world.settings, deep=True)
    assert (report.output.foreign, report.output.others) == (0, 0)


def test_a_link_in_place_of_the_file_is_not_followed(world: OpenLogFiles, tmp_path: Path) -> None:
    path = world.opened(LogFileState.DAMAGED)
    (world.settings.quarantine_dir / ACCEPTED_FILE.name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match=ACCEPTED_FILE.name):
        settle(world, world.address(path))
    assert not (tmp_path / "elsewhere").exists()
    assert world.rows() == [(LogFileState.DAMAGED, 0, True)]


def test_two_people_at_once_accept_each_log_file_once(world: OpenLogFiles) -> None:
    for suffix in "BCDE":
        world.damage(suffix)
    world.sync()
    with ThreadPoolExecutor(2) as people:
        done = list(
            people.map(lambda by: accept(world.settings, Chosen(ALL), "lost", by), ["one", "two"])
        )
    assert sum(settled.log_files for settled in done) == 4
    assert len(shown(world)) == len(decisions(world)) == 4


def remove_ledger(world: OpenLogFiles) -> None:
    for path in world.settings.state_db.parent.glob(f"{world.settings.state_db.name}*"):
        path.unlink()


@pytest.mark.parametrize("state", [LogFileState.DAMAGED, LogFileState.FAILED])
def test_a_rebuilt_ledger_accepts_what_it_finds_as_it_was(
    world: OpenLogFiles, state: LogFileState
) -> None:
    path = world.opened(state)
    other = world.damage("Z")
    world.sync()
    settle(world, world.address(path))
    settle(world, world.address(other))
    undo(world.settings, Chosen([world.address(other)]))
    remove_ledger(world)
    rebuilt = rebuild(world.settings)
    assert (rebuilt.accepted, rebuilt.problems) == (1, [])
    assert shown(world) == [(world.address(path), state, "lost for good", "me")]
    assert not world.sync().ok, "the other one stands open"
    assert world.rows() == [(state, 1, False), (LogFileState.DAMAGED, 0, True)]
    settle(world, world.address(other))
    remove_ledger(world)
    rebuild(world.settings)
    assert world.sync().ok, "both are accepted again as they are found"


def test_a_rebuilt_ledger_knows_of_an_accepted_log_file_that_is_gone(world: OpenLogFiles) -> None:
    path = world.opened(LogFileState.GONE)
    settle(world, world.address(path))
    remove_ledger(world)
    rebuild(world.settings)
    assert world.sync().ok
    assert shown(world) == [(world.address(path), LogFileState.GONE, "lost for good", "me")]
    report = compare(world.settings)
    assert (report.is_complete, findings(report)) == (True, [FindingKind.LOG_FILE_ACCEPTED])
    world.put("B", event("of B"))
    assert world.sync().ok
    assert shown(world) == []
    world.assert_whole()


def test_a_rebuilt_ledger_reads_a_mended_log_file(world: OpenLogFiles) -> None:
    path = world.opened(LogFileState.DAMAGED)
    settle(world, world.address(path))
    remove_ledger(world)
    rebuild(world.settings)
    world.put("B", event("of B"))
    assert world.sync().ok
    assert shown(world) == []
    world.assert_whole()


def test_lines_that_are_not_as_written_are_named_and_count_for_nothing(
    world: OpenLogFiles,
) -> None:
    path = world.opened(LogFileState.DAMAGED)
    settle(world, world.address(path))
    file = world.settings.quarantine_dir / ACCEPTED_FILE.name
    line = json.loads(file.read_text())
    for change in ({"state": "sound"}, {"key": "elsewhere"}, {"at": "noon"}, {"by": 7}):
        with file.open("a") as opened:
            opened.write(json.dumps(line | change) + "\n")
    with file.open("a") as opened:
        opened.write('{"decision": "undo')  # cut off by a crash
    undo(world.settings, Chosen(ALL))
    settle(world, *ALL)
    remove_ledger(world)
    rebuilt = rebuild(world.settings)
    assert rebuilt.problems == [f"{file}:{number}: not as it was written" for number in range(2, 7)]
    assert rebuilt.accepted == 1


@pytest.mark.parametrize("change", [settle, lambda world, *of: undo(world.settings, Chosen(of))])
def test_an_older_copy_of_the_ledger_is_refused(
    world: OpenLogFiles, tmp_path: Path, change: Callable[..., object]
) -> None:
    world.opened(LogFileState.DAMAGED)
    if change is not settle:
        settle(world, *ALL)
    shutil.copy(world.settings.state_db, tmp_path / "copy")
    change(world, *ALL)
    shutil.copy(tmp_path / "copy", world.settings.state_db)
    with pytest.raises(LedgerError, match="an older copy was restored"):
        sync(world.settings)


KILLED = """
import os, pickle, signal, sys
from ctrail_pipeline.core.upkeep.accept import accept, undo
from ctrail_pipeline.core.upkeep.accept_choice import Chosen

settings, step, undoes = pickle.load(sys.stdin.buffer)

def die(reached):
    if reached == step:
        os.kill(os.getpid(), signal.SIGKILL)

if undoes:
    undo(settings, Chosen(["file://*"]), observe=die)
else:
    accept(settings, Chosen(["file://*"]), "lost", observe=die)
"""


@pytest.mark.parametrize("undoes", [False, True], ids=["accept", "undo"])
@pytest.mark.parametrize("step", ["noted", "committed", "marked"])
def test_a_kill_loses_nothing_that_a_second_call_does_not_do(
    world: OpenLogFiles, step: str, undoes: bool
) -> None:
    path = world.opened(LogFileState.DAMAGED)
    if undoes:
        settle(world, *ALL)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED],
        cwd=PROJECT,
        input=pickle.dumps((world.settings, step, undoes)),
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    is_accepted = undoes if step == "noted" else not undoes
    assert bool(shown(world)) is is_accepted
    if is_accepted is undoes:
        if undoes:
            undo(world.settings, Chosen(ALL))
        else:
            settle(world, *ALL)
    assert bool(shown(world)) is not undoes
    remove_ledger(world)
    rebuild(world.settings)
    world.sync()
    assert world.rows() == [(LogFileState.DAMAGED, int(not undoes), undoes)]
    assert path.exists()
