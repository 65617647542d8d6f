"""The run config that `sync` and `verify` share: which trails, accounts, regions and times."""

from dagster import (
    Config,
)
from pydantic import Field

from ctrail_pipeline.config.times import parse_time, window_start
from ctrail_pipeline.core.listing.selection import Selection


class SelectionConfig(Config):
    """Which log files a run is about: by default all that the configuration names."""

    trails: list[str] | None = Field(
        default=None,
        description="Names of trails, with * and ? as wildcards; default: all of them.",
    )
    partitions: list[str] | None = Field(
        default=None,
        description="account/region keys, any set of them, with * and ? as wildcards; default: all"
        " of them.",
    )
    start: str | None = Field(
        default=None,
        description="Log files from this time on (ISO 8601, UTC), by the time in their key;"
        " default: the configuration's.",
    )
    end: str | None = Field(
        default=None,
        description="Log files before this time, plus an hour: the time in a key is that of the"
        " delivery.",
    )
    since: str | None = Field(
        default=None,
        description="Instead of start: log files that are at most so old, such as 90m, 6h, 2d.",
    )
    exclude_trails: list[str] = Field(default=[], description="Trails to leave out.")
    accounts: list[str] = Field(
        default=[], description="Accounts, with * and ? as wildcards; default: all."
    )
    exclude_accounts: list[str] = Field(default=[], description="Accounts to leave out.")
    regions: list[str] = Field(
        default=[], description="Regions, with * and ? as wildcards; default: all."
    )
    exclude_regions: list[str] = Field(default=[], description="Regions to leave out.")

    def selection(self) -> Selection:
        """Return the selection for the core. Raises ConfigurationError for a bad time."""
        return Selection(
            trails=self.trails,
            partitions=self.partitions,
            start=window_start(self.start, self.since),
            end=None if self.end is None else parse_time("end", self.end),
            exclude_trails=self.exclude_trails,
            accounts=self.accounts,
            exclude_accounts=self.exclude_accounts,
            regions=self.regions,
            exclude_regions=self.exclude_regions,
        )
