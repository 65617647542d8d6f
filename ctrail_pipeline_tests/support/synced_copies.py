"""The output of a sync that many tests begin with: synced once, and copied for each test.

A copy is as good as a sync of its own: the ledger and the markers name no folder.
"""

import shutil
from dataclasses import replace
from pathlib import Path

from ctrail_pipeline.core.output.local.local_output import LocalOutput
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings

from .sync_process import sample_settings


class SyncedCopies:
    """Copies of the output of a sample, synced as the settings say."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._originals: dict[str, Settings] = {}

    def of_sample(
        self, sample: Path, folder: Path, *, problems: int = 0, **changes: object
    ) -> Settings:
        """The settings of `sample_settings` over a copy of the output of a sync that has ended.

        `problems`: how many log files of the sample cannot be brought in. Nothing may be patched
        when this is called: the output is that of all tests that ask for it.
        """
        name = repr((sample, sorted(changes.items())))
        if name not in self._originals:
            original = sample_settings(sample, self._folder / str(len(self._originals)), **changes)
            assert sync(original).problem_count == problems
            self._originals[name] = original
        return copied(self._originals[name], folder)


def copied(settings: Settings, folder: Path) -> Settings:
    """Copy the output and the ledger to another folder, and return the settings for the copy."""
    below = settings.state_db.parent
    copy = replace(
        settings,
        events_dir=folder / settings.events_dir.relative_to(below),
        quarantine_dir=folder / settings.quarantine_dir.relative_to(below),
        state_db=folder / settings.state_db.relative_to(below),
    )
    folder.mkdir(parents=True, exist_ok=True)
    roots, copies = LocalOutput.of(settings).roots, LocalOutput.of(copy).roots
    for kind, root in roots.items():
        if root.exists():
            shutil.copytree(root, copies[kind])
    for path in below.glob(f"{settings.state_db.name}*"):
        shutil.copy2(path, folder)
    return copy
