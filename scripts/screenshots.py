"""Draws docs/*.svg: what `ctrail` shows on a terminal, taken from real runs of the sample.

    .venv/bin/python scripts/screenshots.py

The runs read from the tests' S3 server, which is slowed down so that there is something to see. The
pictures load nothing from elsewhere.
"""

import json
import os
import pty
import re
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from ctrail_pipeline.sample.bucket import (
    ORGANIZATION_BUCKET,
    PAYMENTS_BUCKET,
    PAYMENTS_PREFIX,
    write_sample,
)
from ctrail_pipeline_tests.support.fault_server import Faults, FaultServer

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 124
_SEQUENCE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|([\r\n])")
_SVG_WITHOUT_FONTS = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def run(folder: Path, server: FaultServer, *arguments: str) -> str:
    """Run `ctrail` on a terminal and return all that the terminal gets."""
    controller, terminal = pty.openpty()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        **server.env(),
        "PYTHONPATH": str(ROOT),
        "COLUMNS": str(WIDTH),
        "TERM": "xterm-256color",
    }
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "ctrail_pipeline.cli", *arguments],
        cwd=folder,
        env=environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            data = os.read(controller, 65536)
        except OSError:  # the command has ended
            break
        if not data:
            break
        shown += data
    os.close(controller)
    process.wait()
    return shown.decode()


def screen(stream: str) -> str:
    """The text on the screen after a stream of text, colours and movements upwards."""
    lines, row, at = [""], 0, 0
    for match in _SEQUENCE.finditer(stream):
        lines[row] += stream[at : match.start()]
        at = match.end()
        number, letter, control = match.groups()
        if control == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif letter == "A":
            row = max(0, row - int(number or 1))
        elif letter == "K":
            lines[row] = ""
        elif letter == "m":
            lines[row] += match[0]
    lines[row] += stream[at:]
    return "\n".join(lines).rstrip()


def draw(name: str, command: str, shown: str) -> None:
    """Write one picture: the command, and the text on the screen."""
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True)
    console.print(Text(f"$ {command}", style="bold"))
    console.print(Text.from_ansi(shown))
    path = ROOT / "docs" / f"{name}.svg"
    path.write_text(
        console.export_svg(title="ctrail", code_format=_SVG_WITHOUT_FONTS, unique_id=name)
    )
    print(path.relative_to(ROOT))


def main() -> None:
    """Run the commands and draw their screens."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sample(folder / "sample", log_files=1500)
        with FaultServer(folder / "sample") as server:
            trails = [
                {"name": "organization", "bucket": ORGANIZATION_BUCKET},
                {"name": "payments", "bucket": PAYMENTS_BUCKET, "prefix": PAYMENTS_PREFIX},
            ]
            endpoint = {"region": "us-east-1", "endpoint_url": server.endpoint_url}
            config = {"trails": [trail | endpoint for trail in trails], "batch_log_files": 40}
            (folder / "config.json").write_text(json.dumps(config | {"download_workers": 8}))
            server.faults = Faults(denied={"AWSLogs/"})
            draw("denied", "ctrail sync --plain", screen(run(folder, server, "sync", "--plain")))
            server.faults = Faults(latency=0.04)
            stream = run(folder, server, "sync")
            # Each frame first wipes the last frame, which is on the screen until then.
            frames = [match.start() for match in re.finditer(r"\r\x1b\[2K", stream)]
            draw("progress", "ctrail sync", screen(stream[: frames[len(frames) * 2 // 3]]))
            draw("status", "ctrail status", screen(run(folder, server, "status")))


if __name__ == "__main__":
    main()
