"""The Dagster side: assets, jobs, sensors, checks and resources. `core` does the work itself."""
