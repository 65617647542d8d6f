"""The keys of the configuration file, each with the check of its value.

The keys are those of a gocloudtrail `config.json`, plus ours. Their defaults stand in
`core.settings.Settings`. A key that is unknown, given twice or missing is refused here. Not here:
what a check allows (`checks`, `times`).
"""

import difflib
from collections.abc import Mapping
from typing import Any

from .checks import (
    Check,
    check_bucket,
    check_delivered_to,
    check_dollars,
    check_endpoint,
    check_flag,
    check_flag_or_null,
    check_formats,
    check_kinds,
    check_ledger_address,
    check_name,
    check_one_line,
    check_output,
    check_output_address,
    check_owners,
    check_path,
    check_prefix,
    check_probability,
    check_queue,
    check_region,
    check_seconds,
    check_seconds_or_zero,
    check_trails,
    check_webhook,
    fit,
    matching,
    one_of,
    patterns,
    whole_number,
)
from .json_file import JsonObject
from .location import ConfigLocation, quoted
from .times import check_duration, check_moment

_ACCOUNTS = patterns('accounts such as ["111122223333", "4*"]')
_REGIONS = patterns('regions such as ["eu-*", "us-east-1"]')
_SELECTION_KEYS: dict[str, Check] = {
    "accounts": _ACCOUNTS,
    "exclude_accounts": _ACCOUNTS,
    "regions": _REGIONS,
    "exclude_regions": _REGIONS,
    "kinds": check_kinds,
}
_ACCESS_KEYS: dict[str, Check] = {
    "region": check_region,
    "endpoint_url": check_endpoint,
    "profile": check_one_line,
    "role_arn": matching(
        r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,576}",
        'a role such as "arn:aws:iam::111122223333:role/ctrail-reader"',
    ),
    "external_id": matching(r"[\w+=,.@:/-]{2,1224}", "an external id of 2 to 1224 characters"),
    "session_name": matching(
        r"[\w+=,.@-]{2,64}", "2 to 64 letters, digits and characters of +=,.@-_"
    ),
    "kms_key_id": check_one_line,
}
"""Keys that say how a bucket is asked."""
OUTPUT_KEYS = _ACCESS_KEYS
"""Keys of `output`."""
TRAIL_KEYS: dict[str, Check] = {
    "name": check_name,
    "bucket": check_bucket,
    "prefix": check_prefix,
    "exact_prefix": check_flag,
    **_ACCESS_KEYS,
    "requester_pays": check_flag,
    "queue": check_queue,
    "home_region": check_region,
    "log_file_validation": check_flag_or_null,
    "is_organization": check_flag_or_null,
    "delivered_to": check_delivered_to,
    "public_keys": check_path,
    "object_metadata": check_path,
    **_SELECTION_KEYS,
}
"""Keys of a trail."""
SETTINGS_KEYS: dict[str, Check] = {
    "trails": check_trails,
    "events_dir": check_output_address,
    "quarantine_dir": check_output_address,
    "output": check_output,
    "output_formats": check_formats,
    "jsonl_compression": one_of("none", "gzip", "zstd"),
    "parquet_dir": check_output_address,
    "state_db": check_ledger_address,
    "events_per_file": whole_number(1, 10**9),
    "list_batch_size": whole_number(1, 1000),
    "download_workers": whole_number(0, 10_000),
    "process_workers": whole_number(0, 10_000),
    "start": check_moment,
    "end": check_moment,
    "since": check_duration,
    **_SELECTION_KEYS,
    "lookback_hours": whole_number(0, 24 * 36_500),
    "horizon_days": whole_number(1, 36_500),
    "listing_interval": check_seconds,
    "max_log_file_bytes": whole_number(1, 2**40),
    "max_hours_per_log_file": whole_number(1, 10**6),
    "max_scattered_hours": whole_number(0, 10**9),
    "hash_log_files": check_flag,
    "batch_log_files": whole_number(1, 10**6),
    "batch_bytes": whole_number(1, 2**40),
    "bloom_false_positive": check_probability,
    "state_save_interval": check_seconds,
    "jsonl_flush_interval": check_seconds,
    "progress_interval": check_seconds,
    "dial_timeout": check_seconds,
    "client_timeout": check_seconds,
}
"""Keys that the core and the configuration itself read."""
DAGSTER_KEYS: dict[str, Check] = {
    "materialization_interval": check_seconds_or_zero,
    "keep_runs_days": whole_number(1, 36_500),
    "no_events_hours": whole_number(1, 24 * 365),
    "owners": check_owners,
    "sensor": one_of("running", "stopped"),
    "sensor_interval": whole_number(10, 24 * 3600),
    "listing_budget": check_dollars,
    "failure_webhook": check_webhook,
}
"""Keys that only the Dagster side reads."""
FIELDS = {"dial_timeout": "connect_timeout", "since": "since_seconds"}
"""Keys whose field in Settings has another name."""

_COUNT = whole_number(0, 2**63 - 1)
_QUEUES = "batch_log_files and batch_bytes bound what is in flight"
_FILTERS = "filters live in the ledger, each sized by what it holds"
_POOL = "connections follow download_workers"
_CLIENT = "the S3 client keeps connections alive by itself"

NO_EFFECT: dict[str, tuple[Check, str]] = {
    "download_queue_size": (_COUNT, _QUEUES),
    "process_queue_size": (_COUNT, _QUEUES),
    "bloom_file": (check_path, _FILTERS),
    "bloom_expected_items": (_COUNT, _FILTERS),
    "max_idle_conns": (_COUNT, _POOL),
    "max_idle_conns_per_host": (_COUNT, _POOL),
    "max_conns_per_host": (_COUNT, _POOL),
    "idle_conn_timeout": (_COUNT, _CLIENT),
    "keep_alive": (_COUNT, _CLIENT),
}
"""Keys of gocloudtrail's that do nothing here, each with its check and the reason."""

KEYS = SETTINGS_KEYS | DAGSTER_KEYS | {key: check for key, (check, _) in NO_EFFECT.items()}
"""Every key of the configuration file, outside of its trails."""


def checked_object(
    location: ConfigLocation, value: Any, keys: Mapping[str, Check], required: tuple[str, ...]
) -> dict[str, Any]:
    """Return the values of a JSON object, each as its key's check returns it."""
    if not isinstance(value, JsonObject):
        location.refuse(f"{quoted(value)} must be an object, {{…}}")
    for key in value.repeated:
        location.key(key).refuse("is given twice; keep one of them")
    for key in value:
        if key not in keys:
            similar = difflib.get_close_matches(key.lower(), keys, n=1)
            advice = (
                f"did you mean {similar[0]}?" if similar else f"known are {', '.join(sorted(keys))}"
            )
            location.key(key).refuse(f"there is no such key; {advice}")
    missing = {key: None for key in required if key not in value}
    return {
        key: fit(location.key(key), item, keys[key]) for key, item in {**value, **missing}.items()
    }
