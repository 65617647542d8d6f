"""Tests of the whole: what no single room can promise."""
