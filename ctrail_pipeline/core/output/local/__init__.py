"""The output in local folders: hard links, fsync, a lock on the events folder."""
