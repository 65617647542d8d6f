"""The commands of `ctrail`, a file each: what a command offers (`add_parser`) and does (`run`)."""
