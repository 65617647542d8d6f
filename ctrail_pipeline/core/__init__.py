"""All that knows CloudTrail: from a bucket's keys to published output files, and the ledger.

It never imports Dagster. It is given values (`core.settings`), and reads neither configuration
files nor the environment.
"""
