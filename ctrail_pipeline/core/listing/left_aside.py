"""What runs saw and did not bring in, for each trail, as the ledger has it.

Not here: which objects and folders count (`core.keys.left_aside`), and how listing tallies them
(`folder_walk`, `discovery`).
"""

from collections.abc import Callable, Mapping

from ctrail_pipeline.core.keys.left_aside import (
    LeftAside,
    Outside,
    Tally,
    outside_listed_again,
    summed,
)
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix, bucket_address
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.left_aside import (
    left_aside_by_source,
    left_aside_outside,
    replace_left_aside_outside,
)
from ctrail_pipeline.core.ledger.source_prefixes import source_ids
from ctrail_pipeline.core.settings import Settings, Trail

from .discovery import Discovery
from .selection import Selection, is_configured, is_of


def note_discovered(ledger: Ledger, trail: Trail, discovery: Discovery) -> None:
    """Note what a discovery saw outside of all source prefixes."""
    replace_left_aside_outside(
        ledger, trail.bucket, trail.prefix, discovery.outside, discovery.unlisted
    )


def left_aside_by_trail(
    settings: Settings, selection: Selection, ledger: Ledger
) -> dict[str, LeftAside]:
    """What is left aside of the selected source prefixes of each trail, and around them.

    Each has an example with its address. Trails of which nothing is left aside are not named.
    """
    tallies = left_aside_by_source(ledger)
    by_prefix = {
        source_prefix: tallies[id_]
        for source_prefix, id_ in source_ids(ledger).items()
        if id_ in tallies
    }
    return sum_by_trail(
        settings,
        selection,
        by_prefix,
        lambda trail: left_aside_outside(ledger, trail.bucket, trail.prefix),
    )


def sum_by_trail(
    settings: Settings,
    selection: Selection,
    tallies: Mapping[SourcePrefix, Tally],
    outside_of: Callable[[Trail], Outside],
) -> dict[str, LeftAside]:
    """The sum for each trail of tallies, and of what lies outside of its source prefixes."""
    by_trail: dict[str, LeftAside] = {}
    for trail in settings.trails:
        of_trail = [
            tally
            for source_prefix, of_prefix in tallies.items()
            if is_of(trail, source_prefix)
            and is_configured(settings, trail, source_prefix)
            and selection.holds(source_prefix)
            for tally in of_prefix.values()
        ]
        of_trail += [tally for whys in outside_of(trail).values() for tally in whys.values()]
        if of_trail:
            by_trail[trail.name] = summed(of_trail)._replace(
                example=f"{bucket_address(trail.bucket)}/{of_trail[0].example}"
            )
    return by_trail


def outside_once_listed(ledger: Ledger | None, trail: Trail, discovery: Discovery) -> Outside:
    """What a ledger would have outside of all source prefixes, once it noted a discovery."""
    old = left_aside_outside(ledger, trail.bucket, trail.prefix) if ledger else {}
    return outside_listed_again(old, discovery.outside, discovery.unlisted)
