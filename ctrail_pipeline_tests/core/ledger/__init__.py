"""Tests of `core/ledger/`."""
