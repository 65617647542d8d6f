"""Knows CloudTrail, never imports Dagster.

From a bucket's keys to published output files, and the ledger that says what is done. It takes
values (`core.settings`) and reads neither configuration files nor the environment.
"""
