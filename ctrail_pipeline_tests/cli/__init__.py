"""Tests of `ctrail`, the command."""
