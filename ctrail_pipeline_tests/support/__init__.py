"""What test files share: servers, oracles, writers of log files, processes that sync."""
