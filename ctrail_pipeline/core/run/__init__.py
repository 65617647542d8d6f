"""One sync, from its sources to its summary, with or without worker processes."""
