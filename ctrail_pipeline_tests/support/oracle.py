"""An independent account of what must be on disk for given buckets, and a check of the disk.

The module uses the standard library only, with zstd as Python has it from 3.14 on, and nothing of
`ctrail_pipeline`: the oracle must not repeat an error of the pipeline. The oracle is slow and plain
on purpose. It holds everything in memory, so it is for samples.
"""

import base64
import binascii
import gzip
import json
import os
import re
import stat
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_LOG_FILE = re.compile(
    r"AWSLogs/(?:o-[a-z0-9]+/)?(?P<account>[^/]+)"
    r"/CloudTrail(?:-NetworkActivity|-Insight|-Aggregated)?"
    r"/(?P<region>[^/]+)/.+\.(json|gz)",
    re.DOTALL | re.IGNORECASE,
)
_ACCOUNT = re.compile(r"[0-9]{12}")
_REGION = re.compile(r"[a-z0-9-]{1,40}")
_EVENT_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:([0-5][0-9]|60)(\.[0-9]+)?(Z|\+00:00)"
)
_OUTPUT_FILE = re.compile(
    r"(?P<folder>[0-9]{12}/[a-z0-9-]{1,40}/[0-9]{4}/[0-9]{2}/[0-9]{2}/[0-9]{2})"
    r"/events_[0-9]{5,}\.jsonl(\.gz|\.zst)?"
)
_JSONL_ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst")
_STRING_OR_LINE_END = re.compile(rb'"(?:[^"\\]|\\.)*"|[\r\n]', re.DOTALL)
_BLANK = re.compile(r"[ \t\r\n]*")
# Numbers are never looked at, and int() refuses those of more than 4,300 digits.
_DECODER = json.JSONDecoder(strict=False, parse_int=float)
_EXAMPLES = 3


@dataclass(frozen=True)
class Expected:
    """The folders where a line belongs."""

    folders: frozenset[str]
    """`account/region/YYYY/MM/DD/HH`; several if only the keys of the line's log files tell."""
    log_file: str
    """The first log file that holds the line."""


@dataclass
class Expectation:
    """The lines that buckets must and may give, and the records for quarantine."""

    lines: dict[bytes, Expected] = field(default_factory=dict)
    """Lines that must be in the output once."""
    optional: dict[bytes, Expected] = field(default_factory=dict)
    """Lines that may be there: complete records of log files whose JSON is damaged further on."""
    quarantined: dict[bytes, str] = field(default_factory=dict)
    """Records that must be in quarantine, with their log file."""
    damaged_log_files: list[str] = field(default_factory=list)
    hollow_log_files: list[str] = field(default_factory=list)
    """Log files with records, none of which is an event."""
    log_files: int = 0
    records: int = 0
    """Records of sound log files, copies included."""


@dataclass
class Report:
    """The violations found on disk, by kind, each kind with its examples."""

    lines: int = 0
    missing: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    altered_or_foreign: list[str] = field(default_factory=list)
    misplaced: list[str] = field(default_factory=list)
    half_written: list[str] = field(default_factory=list)
    wrong_permissions: list[str] = field(default_factory=list)
    not_quarantined: list[str] = field(default_factory=list)
    too_many_lines: list[str] = field(default_factory=list)
    damaged_log_files: list[str] = field(default_factory=list)
    """Damaged log files are no violation: none of their records has to be in the output."""

    @property
    def violations(self) -> dict[str, list[str]]:
        """The kinds of violation that occurred."""
        kinds = {
            "missing": self.missing,
            "doubled": self.doubled,
            "altered_or_foreign": self.altered_or_foreign,
            "misplaced": self.misplaced,
            "half_written": self.half_written,
            "wrong_permissions": self.wrong_permissions,
            "not_quarantined": self.not_quarantined,
            "too_many_lines": self.too_many_lines,
        }
        return {kind: found for kind, found in kinds.items() if found}

    def assert_clean(self) -> None:
        """Raise AssertionError, with counts and first examples, if anything is wrong."""
        found = [
            f"{len(examples)} {kind}: " + "; ".join(examples[:_EXAMPLES])
            for kind, examples in self.violations.items()
        ]
        if found:
            raise AssertionError("\n".join(found))


def expected_lines(buckets: Iterable[tuple[Path, str]]) -> dict[bytes, Expected]:
    """The lines that must be in the output for these buckets (folder, prefix)."""
    return read_buckets(buckets).lines


def read_buckets(buckets: Iterable[tuple[Path, str]]) -> Expectation:
    """Read every log file of these buckets (folder, prefix)."""
    expectation = Expectation()
    for folder, prefix in buckets:
        base = folder / prefix if prefix else folder
        for path in sorted(base.glob("AWSLogs/**/*")):
            key = _LOG_FILE.fullmatch(path.relative_to(base).as_posix())
            if key and path.is_file():
                _read_log_file(path, key["account"], key["region"], expectation)
    # If a sound log file holds a damaged one's record too, it is an ordinary record.
    for line in expectation.lines.keys() & expectation.optional.keys():
        optional = expectation.optional.pop(line)
        sound = expectation.lines[line]
        expectation.lines[line] = Expected(sound.folders | optional.folders, sound.log_file)
    return expectation


def check_output(
    events_dir: Path,
    quarantine_dir: Path,
    buckets: Iterable[tuple[Path, str]] | Expectation,
    *,
    events_per_file: int | None = None,
) -> Report:
    """Compare what is on disk with what must be.

    Reading the buckets is the slow part: pass what `read_buckets` returned to do it once.
    """
    expectation = buckets if isinstance(buckets, Expectation) else read_buckets(buckets)
    report = Report(damaged_log_files=list(expectation.damaged_log_files))
    seen: dict[bytes, str] = {}
    for path, name in _output_files(events_dir, report):
        data = text_of(path)
        if not data.endswith(b"\n"):
            report.half_written.append(f"{name} does not end with a line end")
        lines = data.removesuffix(b"\n").split(b"\n")
        if events_per_file is not None and len(lines) > events_per_file:
            report.too_many_lines.append(f"{name} has {len(lines)}")
        report.lines += len(lines)
        for number, line in enumerate(lines, 1):
            _check_line(line, f"{name}:{number}", expectation, seen, report)
    for line, expected in expectation.lines.items():
        if line not in seen:
            report.missing.append(f"{_shown(line)} of {expected.log_file}")
    _check_quarantine(quarantine_dir, expectation, report)
    for folder in (events_dir, quarantine_dir):
        _check_permissions(folder, report)
    return report


def output_files_now(events_dir: Path) -> list[Path]:
    """The JSONL files below `events_dir` while a sync may be at work.

    Not glob, which fails if a staging folder goes or gets its name while it looks.
    """
    walk = os.walk(events_dir)
    return sorted(
        Path(folder, name)
        for folder, _, names in walk
        for name in names
        if name.endswith(_JSONL_ENDINGS)
    )


def text_of(path: Path) -> bytes:
    """The text of an output file, whose name says how it is compressed."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(data)
    return zstd.decompress(data) if path.suffix == ".zst" else data


def snapshot(events_dir: Path) -> set[bytes]:
    """All lines below `events_dir`; a sync may be at work there.

    Raises:
        AssertionError: a line is there twice.
    """
    lines: set[bytes] = set()
    for path in output_files_now(events_dir):
        for line in text_of(path).removesuffix(b"\n").split(b"\n"):
            assert line not in lines, f"doubled in {path}: {_shown(line)}"
            lines.add(line)
    return lines


# --- buckets --------------------------------------------------------------------------------------


class Damaged(Exception):
    """A log file that cannot be read to its end."""


def _read_log_file(path: Path, account: str, region: str, expectation: Expectation) -> None:
    expectation.log_files += 1
    records: list[tuple[bytes, Any]] = []
    target = expectation.lines
    try:
        for record in records_in(_uncompressed(path.read_bytes())):
            records.append(record)
    except Damaged:
        expectation.damaged_log_files.append(str(path))
        target = expectation.optional
    else:
        expectation.records += len(records)
    events = 0
    for raw, value in records:
        line = _without_line_ends(raw)
        folder = _folder(value, account, region) if line is not None else None
        if line is not None and folder is not None:
            events += 1
            known = target.get(line, Expected(frozenset(), str(path)))
            target[line] = Expected(known.folders | {folder}, known.log_file)
        elif target is expectation.lines:
            expectation.quarantined[raw] = str(path)
    if records and not events and target is expectation.lines:
        expectation.hollow_log_files.append(str(path))


def _uncompressed(data: bytes) -> bytes:
    if data.startswith(b"\x28\xb5\x2f\xfd") or data[1:4] == b"\x2a\x4d\x18":
        try:
            return zstd.decompress(data)
        except zstd.ZstdError as error:
            raise Damaged from error
    if not data.startswith(b"\x1f\x8b"):
        return data
    members = []
    while data:
        member = zlib.decompressobj(wbits=31)
        try:
            members.append(member.decompress(data))
        except zlib.error as error:
            raise Damaged from error
        if not member.eof:
            raise Damaged
        data = member.unused_data
    return b"".join(members)


def records_in(data: bytes) -> Iterator[tuple[bytes, Any]]:
    """The bytes and the value (strings as Latin-1 reads them) of each element of `Records`."""
    # One character for each byte, so that the offsets are those of the bytes.
    text = data.decode("latin-1")
    at = _expect(text, 0, "{")
    found = False
    first_key = True
    while text[at : at + 1] != "}":
        if not first_key:
            at = _expect(text, at, ",")
        first_key = False
        key, at = _value(text, at)
        at = _expect(text, at, ":")
        if key != "Records":
            _, at = _value(text, at)
            at = _after_blank(text, at)
            continue
        if found:
            raise Damaged
        found = True
        at = _expect(text, at, "[")
        first_element = True
        while text[at : at + 1] != "]":
            if not first_element:
                at = _expect(text, at, ",")
            first_element = False
            start = at
            value, at = _value(text, at)
            yield data[start:at], value
            at = _after_blank(text, at)
        at = _expect(text, at, "]")
    at = _expect(text, at, "}")
    if at != len(text) or not found:
        raise Damaged


def _after_blank(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    return blank.end() if blank else at


def _expect(text: str, at: int, character: str) -> int:
    at = _after_blank(text, at)
    if text[at : at + 1] != character:
        raise Damaged
    return _after_blank(text, at + 1)


def _value(text: str, at: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError) as error:
        raise Damaged from error


def _without_line_ends(raw: bytes) -> bytes | None:
    """The record with CR and LF between tokens as spaces, or None if a string holds CR or LF."""

    def replacement(match: re.Match[bytes]) -> bytes:
        return match[0] if match[0].startswith(b'"') else b" "

    line = _STRING_OR_LINE_END.sub(replacement, raw)
    return None if b"\n" in line or b"\r" in line else line


def _folder(record: Any, key_account: str, key_region: str) -> str | None:
    """The folder where a record belongs, or None."""
    if not isinstance(record, dict):
        return None
    time = record.get("eventTime")
    accounts = [record.get("recipientAccountId"), key_account]
    identity = record.get("userIdentity")
    if isinstance(identity, dict):
        accounts.append(identity.get("accountId"))
    if time is None:  # an aggregated event
        accounts = [record.get("accountId"), key_account]
        window = record.get("timeWindow")
        time = window.get("windowStart") if isinstance(window, dict) else None
    account = next((candidate for candidate in accounts if _matches(_ACCOUNT, candidate)), None)
    regions = (record.get("awsRegion"), key_region)
    region = next((candidate for candidate in regions if _matches(_REGION, candidate)), None)
    hour = _hour(time)
    return f"{account}/{region}/{hour}" if account and region and hour else None


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _hour(event_time: Any) -> str | None:
    if not _matches(_EVENT_TIME, event_time):
        return None
    try:
        # A leap second, :60, belongs to its minute. datetime knows no leap seconds.
        at = datetime.strptime(event_time[:17] + "00Z", "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        return None
    return f"{at.year:04}/{at.month:02}/{at.day:02}/{at.hour:02}"


# --- disk -----------------------------------------------------------------------------------------


def _output_files(events_dir: Path, report: Report) -> Iterator[tuple[Path, str]]:
    for path in sorted(events_dir.glob("**/*")):
        name = path.relative_to(events_dir).as_posix()
        if name in {".ctrail", ".staging"}:
            continue
        if name.startswith(".staging/"):
            report.half_written.append(f"{name} is left over")
        elif path.is_file() and _OUTPUT_FILE.fullmatch(name):
            yield path, name
        elif not path.is_dir() or path.is_symlink():
            report.half_written.append(f"{name} is no output file")


def _check_line(
    line: bytes, position: str, expectation: Expectation, seen: dict[bytes, str], report: Report
) -> None:
    expected = expectation.lines.get(line) or expectation.optional.get(line)
    if expected is None:
        report.altered_or_foreign.append(f"{position}: {_shown(line)}")
        return
    if line in seen:
        report.doubled.append(f"{position} and {seen[line]}: {_shown(line)}")
        return
    seen[line] = position
    folder = position.rpartition("/")[0]
    if folder not in expected.folders:
        report.misplaced.append(f"{position} belongs in {' or '.join(sorted(expected.folders))}")


def _check_quarantine(quarantine_dir: Path, expectation: Expectation, report: Report) -> None:
    """Check that quarantine holds each expected record as bytes, as a JSON string, or as base64.

    The pipeline chooses the form. CR and LF may have become spaces.
    """
    held: list[bytes] = []
    for path in sorted(quarantine_dir.glob("**/*")):
        name = path.relative_to(quarantine_dir).as_posix()
        if name.startswith(".staging/") or path.suffix == ".part":
            report.half_written.append(f"quarantine: {name} is left over")
        elif path.is_file() and path.name.endswith(_JSONL_ENDINGS):
            data = text_of(path)
            if not data.endswith(b"\n"):
                report.half_written.append(f"quarantine: {name} does not end with a line end")
            held.append(data)
            if expectation.quarantined:
                held.extend(_strings_in(data))
    for record, log_file in expectation.quarantined.items():
        as_line = record.replace(b"\r", b" ").replace(b"\n", b" ")
        if not any(record in text or as_line in text for text in held):
            report.not_quarantined.append(f"{_shown(record)} of {log_file}")


def _strings_in(data: bytes) -> Iterator[bytes]:
    """The bytes that the JSON strings of quarantine lines may stand for."""
    for line in data.split(b"\n"):
        try:
            values = [json.loads(line)]
        except ValueError:
            continue
        while values:
            value = values.pop()
            if isinstance(value, dict):
                values.extend(value.values())
            elif isinstance(value, list):
                values.extend(value)
            elif isinstance(value, str):
                yield from _bytes_of(value)


def _bytes_of(value: str) -> Iterator[bytes]:
    for encoding, errors in (
        ("utf-8", "surrogateescape"),
        ("utf-8", "surrogatepass"),
        ("latin-1", "strict"),
    ):
        try:
            yield value.encode(encoding, errors)
        except UnicodeEncodeError:
            continue
    try:
        yield base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return


def _check_permissions(folder: Path, report: Report) -> None:
    if not folder.exists():
        return
    for path in (folder, *sorted(folder.glob("**/*"))):
        mode = stat.S_IMODE(path.lstat().st_mode)
        if mode != (0o700 if path.is_dir() else 0o600):
            report.wrong_permissions.append(f"{path} is {mode:04o}")


def _shown(line: bytes) -> str:
    return repr(line[:80]) + ("…" if len(line) > 80 else "")
