"""CPU of one GET: `python -m benchmarks.gets JSON`, a fresh process for each client.

`obstore` is the store that a sync uses, `pycurl` libcurl with its own SigV4; each in as many
threads as told, connections kept. The first keys only warm up.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

_WARM_UP: Final = 200
_KEYS_A_TASK: Final = 8


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Read all keys; returns what to print."""
    keys = [line.split(" ", 1) for line in Path(job["keys"]).read_text().splitlines()]
    opener = {"obstore": _obstore, "pycurl": _pycurl}[job["client"]]
    bucket = keys[0][0]
    names = [key for found, key in keys if found == bucket][: job["most"] + _WARM_UP]
    with ThreadPoolExecutor(job["threads"]) as threads:

        def get_all(some: Sequence[str]) -> int:
            tasks = [some[at : at + _KEYS_A_TASK] for at in range(0, len(some), _KEYS_A_TASK)]
            return sum(threads.map(lambda task: sum(map(get, task)), tasks))

        get = opener(job, bucket)
        get_all(names[:_WARM_UP])
        rest = names[_WARM_UP:] or names
        began = time.process_time()
        size = get_all(rest)
        return {"gets": len(rest), "bytes": size, "work_cpu": time.process_time() - began}


def _obstore(job: dict[str, Any], bucket: str) -> Callable[[str], int]:
    from ctrail_pipeline.core.settings import Settings, Trail
    from ctrail_pipeline.core.store import open_bucket

    nowhere = Path("unused")
    trail = Trail("gets", bucket, "", "us-east-1", job["endpoint_url"])
    store = open_bucket(trail, Settings((trail,), nowhere, nowhere, nowhere))
    return lambda key: len(store.get(key, None).body)


def _pycurl(job: dict[str, Any], bucket: str) -> Callable[[str], int]:
    import os
    import threading
    from io import BytesIO
    from urllib.parse import quote

    import pycurl

    local = threading.local()

    def handle() -> Any:
        curl = pycurl.Curl()
        curl.setopt(pycurl.AWS_SIGV4, "aws:amz:us-east-1:s3")
        curl.setopt(
            pycurl.USERPWD,
            f"{os.environ['AWS_ACCESS_KEY_ID']}:{os.environ['AWS_SECRET_ACCESS_KEY']}",
        )
        curl.setopt(pycurl.FAILONERROR, True)
        curl.setopt(pycurl.NOSIGNAL, True)
        curl.setopt(pycurl.HTTPHEADER, ["x-amz-content-sha256: UNSIGNED-PAYLOAD"])
        if "AWS_CA_BUNDLE" in os.environ:
            curl.setopt(pycurl.CAINFO, os.environ["AWS_CA_BUNDLE"])
        return curl

    def get(key: str) -> int:
        if not hasattr(local, "curl"):
            local.curl = handle()
        body = BytesIO()
        local.curl.setopt(pycurl.URL, f"{job['endpoint_url']}/{bucket}/{quote(key)}")
        local.curl.setopt(pycurl.WRITEDATA, body)
        local.curl.perform()
        return body.tell()

    return get


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
