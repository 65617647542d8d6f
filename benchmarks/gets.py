"""CPU of one GET: `python -m benchmarks.gets JSON`, a fresh process for each client.

`store` is what a sync does: libcurl, driven by one thread. `obstore` is obstore's synchronous GET,
in as many threads as there are GETs in flight. Connections are kept. The first keys only warm up.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from ctrail_pipeline.core.batch.fetch_task import KEYS_A_TASK

_WARM_UP: Final = 400
_OBSTORE_KEYS_A_TASK: Final = 8


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Read all keys; return what to print."""
    keys = [line.split(" ", 1) for line in Path(job["keys"]).read_text().splitlines()]
    opener = {"store": _store, "obstore": _obstore}[job["client"]]
    bucket = keys[0][0]
    names = [key for found, key in keys if found == bucket][: job["gets"] + _WARM_UP]
    get, keys_a_task, threads = opener(job, bucket)
    with ThreadPoolExecutor(threads) as pool:

        def get_all(wanted: Sequence[str]) -> int:
            tasks = [wanted[at : at + keys_a_task] for at in range(0, len(wanted), keys_a_task)]
            return sum(pool.map(get, tasks))

        get_all(names[:_WARM_UP])
        measured_keys = names[_WARM_UP:] or names
        began = time.process_time()
        size = get_all(measured_keys)
        return {"gets": len(measured_keys), "bytes": size, "work_cpu": time.process_time() - began}


_Get = tuple[Callable[[Sequence[str]], int], int, int]
"""A function that reads keys and returns their bytes, its keys at once, and its threads."""


def _store(job: dict[str, Any], bucket: str) -> _Get:
    from ctrail_pipeline.core.bucket.interface import Fetched
    from ctrail_pipeline.core.bucket.open_bucket import get_all, open_bucket
    from ctrail_pipeline.core.settings import Settings, Trail

    nowhere = Path("unused")
    trail = Trail("gets", bucket, "", "us-east-1", job["endpoint_url"])
    settings = Settings(
        (trail,), nowhere, nowhere, nowhere, download_workers=job["in_flight"], process_workers=1
    )
    store = open_bucket(trail, settings)

    def get(keys: Sequence[str]) -> int:
        found = get_all(store, [(key, None) for key in keys])
        return sum(len(response.body) for response in found if isinstance(response, Fetched))

    return get, KEYS_A_TASK, -(-job["in_flight"] // KEYS_A_TASK) + 1


def _obstore(job: dict[str, Any], bucket: str) -> _Get:
    import os

    import obstore
    from obstore.store import S3Store

    options: dict[str, Any] = {"allow_http": True}
    if "AWS_CA_BUNDLE" in os.environ:
        options["root_certificate"] = Path(os.environ["AWS_CA_BUNDLE"]).read_bytes()
    store = S3Store(
        bucket,
        endpoint=job["endpoint_url"],
        region="us-east-1",
        client_options=options,  # type: ignore[arg-type]
        virtual_hosted_style_request=False,
    )

    def get(keys: Sequence[str]) -> int:
        return sum(len(bytes(obstore.get(store, key).bytes())) for key in keys)

    return get, _OBSTORE_KEYS_A_TASK, int(job["in_flight"])


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
