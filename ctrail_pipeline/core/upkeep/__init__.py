"""What keeps an installation small and sound: compaction, pruning, cold rows, rebuilding."""
