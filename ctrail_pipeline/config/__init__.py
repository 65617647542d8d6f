"""The configuration file: reading it, checking it, and writing it from what CloudTrail says."""
