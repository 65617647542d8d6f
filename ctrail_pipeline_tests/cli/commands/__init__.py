"""Tests of the commands of `ctrail`, a file each."""
