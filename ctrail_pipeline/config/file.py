"""The configuration file, read and checked: JSON in, `core.settings.Settings` out.

The settings can be used as they are. A configuration that cannot be right is a ConfigurationError
before anything is touched: it names file, key and value, and says what would be right. A
gocloudtrail `config.json` works as it is; one warning names its keys that have no effect here.
Values of unknown keys are never shown, since they may be secrets. Not here: the table of keys
(`keys`), the checks of values (`checks`, `times`), and the folders we write to (`paths`).
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ctrail_pipeline.core.keys.source_prefix import meant_prefix
from ctrail_pipeline.core.listing.selection import kinds_of
from ctrail_pipeline.core.settings import Settings, Trail

from .dagster_settings import DagsterSettings
from .json_file import parse, read_text
from .keys import DAGSTER_KEYS, FIELDS, KEYS, NO_EFFECT, SETTINGS_KEYS, TRAIL_KEYS, checked_object
from .location import ConfigLocation, quoted
from .paths import output_paths

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config:
    """A configuration, and where it was read."""

    settings: Settings
    source: Path | None
    """The configuration file. None means that there is no file: these are the sample trails."""
    dagster: DagsterSettings = field(default_factory=DagsterSettings)


def load_config(environ: Mapping[str, str] | None = None, folder: Path | None = None) -> Config:
    """Read the file that CTRAIL_CONFIG names, or `config.json`, or take the sample trails.

    Relative paths in the file are relative to the file's own folder.

    Args:
        environ: The variables in which CTRAIL_CONFIG is looked up; by default the environment.
        folder: The folder of `config.json` and of the sample; by default the current folder.

    Raises:
        ConfigurationError: The file is not there, or something in it cannot be right.
    """
    folder = (folder or Path.cwd()).absolute()
    named = (os.environ if environ is None else environ).get("CTRAIL_CONFIG")
    source = folder / (named or "config.json")
    if not named and not os.path.lexists(source):
        logger.info("No CTRAIL_CONFIG and no %s: using the sample trails", source)
        return Config(_sample_settings(folder), None)
    top = ConfigLocation(str(source))
    values = checked_object(top, parse(top, read_text(top, source)), KEYS, required=("trails",))
    dagster = DagsterSettings(**{key: values[key] for key in DAGSTER_KEYS if key in values})
    return Config(_settings(top, values, source.parent), source, dagster)


def _sample_settings(folder: Path) -> Settings:
    """Return the settings that are used without a configuration file."""

    def bucket(name: str) -> str:
        return (folder / "sample" / name).as_uri()

    # The sample's digests are invented: AWS has not signed them.
    trails = (
        Trail("organization", bucket("example-org-trail"), log_file_validation=False),
        Trail(
            "payments",
            bucket("example-payments-trail"),
            "audit/payments",
            log_file_validation=False,
        ),
    )
    return Settings(trails, **output_paths(ConfigLocation("sample trails"), {}, folder))


def _settings(top: ConfigLocation, values: Mapping[str, Any], folder: Path) -> Settings:
    """Return the settings from checked values; checks what several keys say together."""
    _warn_of_keys_without_effect(top, values)
    start, end = values.get("start"), values.get("end")
    if start and end and start >= end:
        top.key("start").refuse(f"{start.isoformat()} must be before end, {end.isoformat()}")
    if start and values.get("since"):
        top.key("since").refuse("start is given too; keep one of the two")
    fields = {FIELDS.get(key, key): item for key, item in values.items() if key in SETTINGS_KEYS}
    fields["trails"] = _trails(top.key("trails"), values["trails"], folder)
    settings = Settings(**fields | output_paths(top, values, folder))
    for index, trail in enumerate(settings.trails):
        if not kinds_of(settings, trail):
            top.key("trails").item(index).key("kinds").refuse(
                f"{quoted(trail.kinds)} and the `kinds` of the configuration,"
                f" {quoted(settings.kinds)}, have none in common"
            )
    return settings


def _trails(location: ConfigLocation, items: list[Any], folder: Path) -> tuple[Trail, ...]:
    """Return the trails; no two may share a name, or bucket and prefix."""

    def checked(index: int, item: Any) -> Trail:
        values = checked_object(location.item(index), item, TRAIL_KEYS, required=("name", "bucket"))
        for key in ("public_keys", "object_metadata"):
            if key in values:
                values[key] = Path(os.path.normpath(folder / values[key]))
        if values.get("queue") and values["bucket"].startswith("file://"):
            location.item(index).key("queue").refuse(
                "a folder sends no notifications; leave it out"
            )
        written = values.get("prefix", "")
        meant = written if values.pop("exact_prefix", False) else meant_prefix(written)
        # A folder has no names that begin or end with a slash.
        another = written.strip("/") if values["bucket"].startswith("file://") else written
        written_prefix = None if another == meant else written
        return Trail(**values | {"prefix": meant, "written_prefix": written_prefix})

    trails = tuple(checked(index, item) for index, item in enumerate(items))
    names: dict[str, int] = {}
    sources: dict[tuple[str, str], int] = {}
    for index, trail in enumerate(trails):
        if (first := names.setdefault(trail.name, index)) != index:
            location.item(index).key("name").refuse(
                f"{quoted(trail.name)} is the name of trails[{first}] already; give it another"
            )
        if (first := sources.setdefault((trail.bucket, trail.prefix), index)) != index:
            pair = (trails[first].written_prefix, trail.written_prefix)
            written = next((prefix for prefix in pair if prefix is not None), None)
            exact = f', or say "exact_prefix": true where CloudTrail was told {quoted(written)}'
            location.item(index).key("bucket").refuse(
                f"{quoted(trail.bucket)} with prefix {quoted(trail.prefix)} is trails[{first}] "
                f"already; keep one of the two{'' if written is None else exact}"
            )
    # What is another trail's is never tried as the second place of this one.
    return tuple(
        replace(trail, written_prefix=None)
        if (trail.bucket, trail.written_prefix) in sources
        else trail
        for trail in trails
    )


def _warn_of_keys_without_effect(top: ConfigLocation, values: Mapping[str, Any]) -> None:
    """Log one warning that names gocloudtrail's keys that do nothing here, each with the reason."""
    keys_by_reason: dict[str, list[str]] = {}
    for key in values:
        if key in NO_EFFECT:
            keys_by_reason.setdefault(NO_EFFECT[key][1], []).append(key)
    if keys_by_reason:
        parts = (f"{', '.join(keys)} ({reason})" for reason, keys in keys_by_reason.items())
        logger.warning("%s: without effect here: %s", top.file, "; ".join(parts))
