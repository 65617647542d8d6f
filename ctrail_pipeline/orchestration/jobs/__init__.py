"""The Dagster jobs, a file each."""
