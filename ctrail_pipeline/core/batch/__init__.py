"""A batch of log files on its way: fetched, routed, staged, committed, published, recovered."""
