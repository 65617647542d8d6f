"""Accepting log files (`ctrail accept`): a person settles what cannot be brought in, as it is.

A log file that failed, is damaged or gone stands open, and fails every sync. If its bytes are
lost for good, a person accepts that, with a reason. Then it is no failure any more, it never counts
as proved, and it is not tried again. Another version of it ends the acceptance. So does `undo`.

The ledger notes an acceptance, and so does a file that `rebuild` reads (`accepted_file`). Both are
written in one transaction, the file first. If a crash comes between the two, the file has lines of
which the ledger knows nothing. Whoever repeats the call writes them again, which changes nothing.
"""

import os
import pwd
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from ctrail_pipeline.core.batch.commit_outcome import note_generation
from ctrail_pipeline.core.exceptions import ConfigurationError
from ctrail_pipeline.core.keys.log_file_key import address_of
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.accepted import (
    ACCEPTABLE,
    Acceptance,
    accept_log_files,
    acceptances,
    take_back,
    unsettled_log_files,
)
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.presence import ledger_exists
from ctrail_pipeline.core.ledger.rows import LogFileState
from ctrail_pipeline.core.ledger.source_prefixes import source_ids
from ctrail_pipeline.core.listing.problem import without_address
from ctrail_pipeline.core.matching_ledger import check_belongs
from ctrail_pipeline.core.output.interface import Output
from ctrail_pipeline.core.output.open_output import open_output
from ctrail_pipeline.core.output_files import Kind
from ctrail_pipeline.core.settings import Settings

from .accept_choice import Candidate, Chosen, Standing, choice
from .accepted_file import Decision, append_decisions
from .opened_output import opened_output

_LONGEST_REASON: Final = 1_000
_LONGEST_NAME: Final = 200
_NAMED: Final = 50
_AT_ONCE: Final = 1_000
"""Log files that one transaction settles."""
_NONE_OPEN: Final = (
    "no such log file stands open; `ctrail sync` and `ctrail verify` print the addresses of those"
    " that do (put an address into single quotes)"
)
_NONE_ACCEPTED: Final = (
    "no such log file is accepted; `ctrail accept --list` shows the addresses of those that are"
)
_NOT_ACCEPTABLE: Final = {
    LogFileState.FOUND: Standing.WAITING,
    LogFileState.ARCHIVED: Standing.ARCHIVED,
}


@dataclass
class Settled:
    """What was settled, or would be if this is a dry run."""

    log_files: int = 0
    """Log files that were accepted, or whose acceptance was taken back."""
    named: list[tuple[str, str]] = field(default_factory=list)
    """The first 50 of them: address, and why the log file was not brought in."""
    others: Counter[Standing] = field(default_factory=Counter)
    """Log files that were chosen and stay as they are."""
    changed: int = 0
    """Chosen log files that another run, or another person, settled meanwhile."""


def accept(
    settings: Settings,
    chosen: Chosen,
    reason: str,
    by: str | None = None,
    *,
    dry_run: bool = False,
    observe: Callable[[str], None] = lambda _step: None,
) -> Settled:
    """Accept the chosen log files that stand open; return what was accepted.

    `by` is who settles them, by default this process's user and host. Nothing is accepted if one
    of the addresses means nothing that can be. `observe` is told each step: noted (in the file),
    committed, marked. Raises ConfigurationError, LedgerError or OutputError.
    """
    _check_text("reason", reason, _LONGEST_REASON)
    decision = _Decision(settings, "accepted", reason, by, observe)
    return decision.apply(chosen, dry_run=dry_run)


def undo(
    settings: Settings,
    chosen: Chosen,
    reason: str | None = None,
    by: str | None = None,
    *,
    observe: Callable[[str], None] = lambda _step: None,
) -> Settled:
    """Take acceptances back; return which. The log files stand open again, and are due at once.

    `accept` explains the parameters.
    """
    if reason is not None:
        _check_text("reason", reason, _LONGEST_REASON)
    return _Decision(settings, "undone", reason or "", by, observe).apply(chosen, dry_run=False)


def accepted(settings: Settings, chosen: Chosen) -> Iterator[tuple[str, Acceptance]]:
    """Yield the chosen log files that are accepted, with their addresses; all if none is named.

    Raises ConfigurationError or LedgerError.
    """
    _check_ledger(settings)
    with closing(Ledger(settings.ledger)) as ledger:
        check_belongs(ledger, open_output(settings))
        prefixes = _prefixes(ledger)
        meant = choice(ledger, chosen, prefixes, _accepted_log_files(ledger), _NONE_ACCEPTED)
        for acceptance in filter(meant.holds, acceptances(ledger)):
            yield address_of(prefixes[acceptance.source_id], *acceptance.row[1:]), acceptance


class _Decision:
    """One decision of a person about log files."""

    def __init__(
        self,
        settings: Settings,
        name: Decision,
        reason: str,
        by: str | None,
        observe: Callable[[str], None],
    ) -> None:
        if by is not None:
            _check_text("by", by, _LONGEST_NAME)
        self._settings = settings
        self._name = name
        self._reason = reason
        self._by = by or _user_and_host()
        self._at = int(time.time())
        self._observe = observe

    def apply(self, chosen: Chosen, *, dry_run: bool) -> Settled:
        """Settle the chosen log files, a bounded number in each transaction."""
        if not chosen.addresses and chosen.damaged_before is None:
            raise ConfigurationError("name log files, such as s3://bucket/key, or give a date")
        _check_ledger(self._settings)
        done = Settled()
        with opened_output(self._settings, recovers=not dry_run) as (ledger, output):
            prefixes = _prefixes(ledger)
            if_none = _NONE_OPEN if self._name == "accepted" else _NONE_ACCEPTED
            meant = choice(ledger, chosen, prefixes, self._candidates(ledger), if_none)
            candidates = (
                candidate
                for candidate in self._candidates(ledger)
                if meant.holds(candidate.acceptance) and self._is_to_settle(candidate, done)
            )
            if not dry_run:
                output.make(Kind.QUARANTINE)
            while group := list(islice(candidates, _AT_ONCE)):
                settled = {candidate.acceptance.row for candidate in group}
                if not dry_run:
                    settled = self._settle(ledger, output, prefixes, group)
                    self._observe("committed")
                    note_generation(ledger, output)
                    self._observe("marked")
                done.log_files += len(settled)
                done.changed += len(group) - len(settled)
                for acceptance, trouble, _ in group:
                    if acceptance.row in settled and len(done.named) < _NAMED:
                        address = address_of(prefixes[acceptance.source_id], *acceptance.row[1:])
                        done.named.append((address, without_address(trouble, address)))
        return done

    def _candidates(self, ledger: Ledger) -> Iterator[Candidate]:
        if self._name == "accepted":
            return _unsettled_log_files(ledger)
        return _accepted_log_files(ledger)

    def _is_to_settle(self, candidate: Candidate, done: Settled) -> bool:
        """Whether this decision changes how a log file stands; count the log file if not."""
        wanted = Standing.OPEN if self._name == "accepted" else Standing.ACCEPTED
        if candidate.standing is wanted:
            return True
        done.others[candidate.standing] += 1
        return False

    def _settle(
        self,
        ledger: Ledger,
        output: Output,
        prefixes: Mapping[int, SourcePrefix],
        group: Sequence[Candidate],
    ) -> set[tuple[int, int, str]]:
        """Settle log files in one transaction; return the rows of those that were settled."""
        change = accept_log_files if self._name == "accepted" else take_back
        decided = [
            candidate.acceptance._replace(reason=self._reason, by=self._by, at=self._at)
            for candidate in group
        ]
        with ledger.transaction():
            settled = change(ledger, decided)
            if settled:
                append_decisions(
                    output,
                    self._name,
                    [(prefixes[acceptance.source_id], acceptance) for acceptance in settled],
                )
                self._observe("noted")
                # A copy of the ledger from before is older: it does not know the decision.
                ledger.advance_generation()
        return {acceptance.row for acceptance in settled}


def _unsettled_log_files(ledger: Ledger) -> Iterator[Candidate]:
    for source_id, day, name, state, etag, trouble, is_accepted in unsettled_log_files(ledger):
        standing = Standing.OPEN if state in ACCEPTABLE else _NOT_ACCEPTABLE[state]
        yield Candidate(
            Acceptance(source_id, day, name, etag, state, "", "", 0),
            f"{state.name.lower()}: {trouble}",
            Standing.ACCEPTED if is_accepted else standing,
        )


def _accepted_log_files(ledger: Ledger) -> Iterator[Candidate]:
    for acceptance in acceptances(ledger):
        trouble = f"{acceptance.state.name.lower()}; accepted: {acceptance.reason}"
        yield Candidate(acceptance, trouble, Standing.ACCEPTED)


def _prefixes(ledger: Ledger) -> dict[int, SourcePrefix]:
    return {id_: prefix for prefix, id_ in source_ids(ledger).items()}


def _check_ledger(settings: Settings) -> None:
    if not ledger_exists(settings.ledger):
        raise ConfigurationError(f"{settings.ledger}: there is no ledger, so nothing to accept")


def _check_text(name: str, text: str, longest: int) -> None:
    """Raise ConfigurationError unless a text is a line that people can read."""
    if not text.strip() or len(text) > longest or not text.isprintable():
        raise ConfigurationError(f"{name}: give one line of 1 to {longest:,} printable characters")


def _user_and_host() -> str:
    """Return the system's name of this process's user, and of this machine."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container, a user need not have a name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"
