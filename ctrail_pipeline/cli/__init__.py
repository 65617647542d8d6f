"""The command `ctrail`: its options, a file for each command, progress, exit codes."""
