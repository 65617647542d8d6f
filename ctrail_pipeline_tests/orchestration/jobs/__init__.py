"""Tests of Dagster's jobs, a file each."""
