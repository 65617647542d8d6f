"""Tests of what Dagster sees: assets, sensors, checks."""
