"""The commands of `ctrail`, a file each. Every file holds a `COMMAND`; `cli.main` lists them."""
