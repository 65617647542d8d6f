"""The command `ctrail`: main, options, a file for each command, the live display, exit codes."""
