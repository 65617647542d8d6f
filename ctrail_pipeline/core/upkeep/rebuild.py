"""Rebuilding (`ctrail rebuild`): a new ledger for an output folder whose ledger is lost or damaged.

The output says which events there are: their identities are taken from its lines. The next sync
lists and reads everything once more, adds what is missing, and doubles nothing. What only the
ledger knew is gone: which log file a line came from, which log files are done, and what was pruned.
Which log files people have accepted is in a file of its own, which is read (`accepted_file`).
The old ledger is kept beside the new one. Where Parquet is written, it is made to hold what the
lines hold (`parquet_repair`).

The new ledger is built in a file and takes the old one's place at the end (`rebuild_place`). If a
rebuild is killed, the next one begins again.
"""

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

from ctrail_pipeline.core.claims import lock_alone
from ctrail_pipeline.core.exceptions import ConfigurationError, LedgerError
from ctrail_pipeline.core.ledger.admission import BEING_REBUILT, refuse_closed
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.parquet_batches import doubt_parquet
from ctrail_pipeline.core.ledger.presence import ledger_exists
from ctrail_pipeline.core.ledger_address import LedgerAddress
from ctrail_pipeline.core.matching_ledger import claim_parquet_for_rebuild
from ctrail_pipeline.core.output.interface import Output
from ctrail_pipeline.core.output.marker import MARKER, replace_marker
from ctrail_pipeline.core.output.open_output import open_output
from ctrail_pipeline.core.output.parquet import hours_of_date
from ctrail_pipeline.core.output_files import Kind
from ctrail_pipeline.core.settings import Settings

from .parquet_row_hashes import RowSums
from .rebuild_accepted import take_acceptances
from .rebuild_adopt import Adopter
from .rebuild_files import output_files
from .rebuild_leftovers import compaction_leftovers
from .rebuild_parquet import has_parquet, note_parquet, repair_parquet
from .rebuild_place import files_of, place_of
from .rebuild_result import Rebuilt


def rebuild(
    settings: Settings,
    *,
    force: bool = False,
    observe: Callable[[str], None] = lambda _step: None,
) -> Rebuilt:
    """Build the ledger of an output folder anew; return what was found in the output.

    `observe` is told each step: adopted, repaired, built, moved, marked, renamed. Raises
    ConfigurationError if there is no output, or if the ledger is sound and `force` is not set;
    LedgerError if a run is at work.
    """
    state_db, place, output = settings.state_db, place_of(settings), open_output(settings)
    if not output.is_marked(Kind.EVENTS):
        where = output.location(Kind.EVENTS)
        raise ConfigurationError(f"{where} is no output folder of this program: no {MARKER}")
    if ledger_exists(settings.ledger) and not force:  # a server that is not there is said first
        _check_need(settings.ledger, output)
    lock = lock_alone(settings.ledger, output, "rebuild")
    new = state_db.with_name(f"{state_db.name}.rebuild")
    try:
        kinds = _kinds(new, settings, output)
        _clear_staging(output)
        result, name, generation = _built(new, settings, output, kinds, place.set_aside, observe)
        observe("built")
        place.set_aside()
        if (problem := place.take_in(new)) is not None:
            result.note(problem)
        observe("moved")
        # The markers are replaced before the new ledger can be used: in between there is no
        # ledger, or a closed one, so any run says what to do. The marker of Parquet comes first: if
        # this run is killed between the two, `_kinds` still knows that the Parquet belongs to the
        # ledger.
        if Kind.PARQUET in kinds:
            replace_marker(output, Kind.PARQUET, name, generation)
        replace_marker(output, Kind.EVENTS, name, generation)
        observe("marked")
        place.open(new)
        observe("renamed")
    finally:
        output.close()
        lock.close()
    return result


def _built(
    new: Path,
    settings: Settings,
    output: Output,
    kinds: Sequence[Kind],
    set_aside: Callable[[], None],
    observe: Callable[[str], None],
) -> tuple[Rebuilt, str, int]:
    """Build a ledger of the output, once the output holds each event once.

    Returns what was found, and the ledger's name and generation. The old ledger is set aside before
    the output is changed: after a kill the next sync would go on with a ledger that does not know
    of the change.
    """
    repairs = "parquet" in settings.output_formats
    removed, changed = 0, 0
    looked_at: set[str] = set()
    set_aside_files: list[str] = []
    while True:
        for leftover in files_of(new):
            leftover.unlink()
        result = Rebuilt(left_over=removed, parquet_repaired=changed)
        sums = RowSums() if repairs or has_parquet(output, kinds) else None
        with closing(Ledger(new)) as ledger:
            adopter = Adopter(ledger, output, settings.bloom_false_positive, result, observe, sums)
            for file, number in output_files(output, kinds, result):
                adopter.take(file, number)
            adopter.adopt()
            take_acceptances(ledger, output, result)
            differing = sums.differing() if sums else []
            doubt_parquet(ledger, map(hours_of_date, differing))
            name, generation = ledger.uuid, ledger.generation
        if left_over := compaction_leftovers(output, adopter.doubled_in):
            set_aside()
            output.remove(left_over)
            removed += len(left_over)
        elif repairs and (dates := [date for date in differing if date not in looked_at]):
            set_aside()
            for done in repair_parquet(output, dates):
                changed += done.is_changed
                set_aside_files += [
                    f"{path}: set aside, it had rows of no event" for path in done.set_aside
                ]
            looked_at.update(dates)
            observe("repaired")
        else:
            break
    if sums and not repairs:
        note_parquet(sums, output, result)
    for problem in set_aside_files:
        result.note(problem)
    return result, name, generation


def _check_need(address: LedgerAddress, output: Output) -> None:
    """Refuse to set aside a sound ledger (ConfigurationError), or one that moved (LedgerError)."""
    if isinstance(address, Path) and not address.stat().st_size:
        return
    try:
        with closing(Ledger(address, closed="")) as ledger:
            ledger.check()
            name, generation, closed = ledger.uuid, ledger.generation, ledger.closed
    except LedgerError:
        return
    if closed == BEING_REBUILT:
        return
    refuse_closed(address, closed)
    where = output.location(Kind.EVENTS)
    of_folder, newest = output.read_marker(Kind.EVENTS) or (name, generation)
    if name != of_folder:
        raise ConfigurationError(
            f"{address} is sound, and the ledger of another folder than {where}: name this"
            " folder's own, or a new file, in `state_db`"
        )
    if generation >= newest:
        raise ConfigurationError(
            f"{address} is the ledger of {where} and sound: there is nothing to rebuild"
        )


def _kinds(new: Path, settings: Settings, output: Output) -> list[Kind]:
    """Return the kinds of output that belong to this ledger; Parquet may belong to another one."""
    rebuilt = None
    if new.exists():
        with suppress(LedgerError), closing(Ledger(new)) as ledger:
            rebuilt = ledger.uuid
    writes = "parquet" in settings.output_formats
    ours = claim_parquet_for_rebuild(output, rebuilt, writes=writes)
    return [kind for kind in Kind if kind is not Kind.PARQUET or ours]


def _clear_staging(output: Output) -> None:
    """Remove staged files: without the ledger they count for nothing, and are fetched again."""
    with suppress(LedgerError):  # a damaged marker names no ledger
        if (marker := output.read_marker(Kind.EVENTS)) is not None:
            output.stage_for(marker.ledger)
    for token in sorted(output.staging_tokens()):
        staging = output.staging_of(token)
        if staging.owner_lives():
            raise LedgerError(
                f"a run is at work in {output.location(Kind.EVENTS)}: stop it, then rebuild"
            )
        staging.remove()
