"""The configuration file: reading it, checking it, and making it from what CloudTrail says."""
