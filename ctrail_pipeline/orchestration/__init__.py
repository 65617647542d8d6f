"""The Dagster side: assets, jobs, sensors, checks, resources. The work itself is done by `core`."""
