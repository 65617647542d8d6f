"""The commands of `ctrail`, a file each: every file holds a `COMMAND`, and `cli.main` lists them."""
