"""The oracle notices each kind of violation."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from .oracle import Report, check_output, expected_lines, snapshot
from .zstd_frames import frame, skippable_frame

KEY = "AWSLogs/111122223333/CloudTrail/us-east-1/2026/01/15/111122223333_CloudTrail_us-east-1_{}"
HOUR_FOLDER = "111122223333/us-east-1/2026/01/15/10"
A = b'{"eventTime":"2026-01-15T10:00:00Z","awsRegion":"us-east-1","n":1.688E9}'
B = b'{"eventTime":"2026-01-15T10:59:59Z","recipientAccountId":"444455556666"}'
C = b'{"eventTime":"2026-01-15T23:00:00Z","userIdentity":{"accountId":"777788889999"}}'


def put(bucket: Path, name: str, body: bytes, key: str = KEY) -> None:
    path = bucket / key.format(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)


def log_file(*records: bytes) -> bytes:
    return gzip.compress(b'{"Records":[' + b",".join(records) + b"]}", mtime=0)


def folders_of_lines(bucket: Path, prefix: str = "") -> dict[bytes, set[str]]:
    return {
        line: set(expected.folders) for line, expected in expected_lines([(bucket, prefix)]).items()
    }


class Disk:
    """A bucket, and the output that a perfect pipeline makes of it."""

    def __init__(self, folder: Path) -> None:
        self.bucket = folder / "bucket"
        self.events = folder / "events"
        self.quarantine = folder / "quarantine"
        put(self.bucket, "1.json.gz", log_file(A, B))
        put(self.bucket, "2.json.gz", log_file(B, C))
        self.write(f"{HOUR_FOLDER}/events_00001.jsonl", A + b"\n")
        self.write("444455556666/us-east-1/2026/01/15/10/events_00001.jsonl", B + b"\n")
        self.write("111122223333/us-east-1/2026/01/15/23/events_00001.jsonl", C + b"\n")
        self.write(".ctrail", b"{}")

    def write(self, name: str, data: bytes, folder: Path | None = None) -> Path:
        path = (folder or self.events) / name
        for parent in reversed(path.parents):
            if not parent.exists():
                parent.mkdir(mode=0o700)
        path.write_bytes(data)
        path.chmod(0o600)
        return path

    def report(self, events_per_file: int | None = None) -> Report:
        buckets = [(self.bucket, "")]
        return check_output(self.events, self.quarantine, buckets, events_per_file=events_per_file)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def test_what_is_right_is_clean(disk: Disk) -> None:
    (disk.events / ".staging").mkdir(mode=0o700)
    report = disk.report(events_per_file=1)
    report.assert_clean()
    assert report.lines == 3
    assert snapshot(disk.events) == {A, B, C}


def first_file(disk: Disk) -> Path:
    return disk.events / HOUR_FOLDER / "events_00001.jsonl"


def drop(disk: Disk) -> None:
    first_file(disk).unlink()


def double(disk: Disk) -> None:
    disk.write(f"{HOUR_FOLDER}/events_00002.jsonl", A + b"\n")


def alter(disk: Disk) -> None:
    disk.write(f"{HOUR_FOLDER}/events_00001.jsonl", A.replace(b"1.688E9", b"1688000000.0") + b"\n")


def misplace(disk: Disk) -> None:
    drop(disk)
    disk.write("111122223333/us-east-1/2026/01/15/11/events_00001.jsonl", A + b"\n")


def cut(disk: Disk) -> None:
    disk.write(f"{HOUR_FOLDER}/events_00001.jsonl", A)


def leave_part(disk: Disk) -> None:
    disk.write(f"{HOUR_FOLDER}/events_00002.jsonl.part", A + b"\n")


def leave_staging(disk: Disk) -> None:
    disk.write(".staging/0123/events_00001.part", A + b"\n")


def leave_quarantine_part(disk: Disk) -> None:
    disk.write("q.part", A + b"\n", disk.quarantine)


def open_file(disk: Disk) -> None:
    first_file(disk).chmod(0o644)


def open_folder(disk: Disk) -> None:
    first_file(disk).parent.chmod(0o755)


def empty_file(disk: Disk) -> None:
    disk.write(f"{HOUR_FOLDER}/events_00002.jsonl", b"")


def spoil_quarantine(disk: Disk) -> None:
    put(disk.bucket, "3.json.gz", log_file(b'{"eventTime":"yesterday"}'))


def add_line(disk: Disk) -> None:
    put(disk.bucket, "3.json.gz", log_file(A.replace(b":00Z", b":01Z")))
    disk.write(f"{HOUR_FOLDER}/events_00001.jsonl", A + b"\n" + A.replace(b":00Z", b":01Z") + b"\n")


@pytest.mark.parametrize(
    ("plant", "kinds"),
    [
        (drop, {"missing"}),
        (double, {"doubled"}),
        (alter, {"missing", "altered_or_foreign"}),
        (misplace, {"misplaced"}),
        (cut, {"half_written"}),
        (leave_part, {"half_written"}),
        (leave_staging, {"half_written"}),
        (leave_quarantine_part, {"half_written"}),
        (open_file, {"wrong_permissions"}),
        (open_folder, {"wrong_permissions"}),
        (empty_file, {"half_written", "altered_or_foreign"}),
        (spoil_quarantine, {"not_quarantined"}),
        (add_line, {"too_many_lines"}),
    ],
)
def test_each_violation_is_noticed(
    disk: Disk, plant: Callable[[Disk], None], kinds: set[str]
) -> None:
    plant(disk)
    report = disk.report(events_per_file=1)
    assert set(report.violations) == kinds
    with pytest.raises(AssertionError, match=min(kinds)):
        report.assert_clean()


def test_snapshot_refuses_a_doubled_line(disk: Disk) -> None:
    double(disk)
    with pytest.raises(AssertionError, match="doubled"):
        snapshot(disk.events)


@pytest.mark.parametrize("held", [b'{"record":"{\\"eventTime\\":\\"yesterday\\"}"}', None])
def test_a_record_in_quarantine_is_found(disk: Disk, held: bytes | None) -> None:
    spoil_quarantine(disk)
    disk.write("q.jsonl", (held or b'{"eventTime":"yesterday"}') + b"\n", disk.quarantine)
    disk.report().assert_clean()


def test_the_place_comes_from_the_record_and_else_from_the_key(tmp_path: Path) -> None:
    odd_region = b'{"eventTime":"2026-01-15T10:00:00Z","awsRegion":"../../etc"}'
    offset = A.replace(b"00:00Z", b"00:00+00:00")
    window = b'"timeWindow":{"windowStart":"2026-01-15T09:55:00Z"}'
    aggregated = b'{"accountId":"444455556666","awsRegion":"us-east-1",%s}' % window
    put(tmp_path, "1.json.gz", log_file(A, B, C, odd_region, offset, aggregated))
    assert folders_of_lines(tmp_path) == {
        A: {HOUR_FOLDER},
        B: {"444455556666/us-east-1/2026/01/15/10"},
        C: {"111122223333/us-east-1/2026/01/15/23"},
        odd_region: {HOUR_FOLDER},
        offset: {HOUR_FOLDER},
        aggregated: {"444455556666/us-east-1/2026/01/15/09"},
    }


def test_the_caller_names_the_place_if_the_key_has_no_account(tmp_path: Path) -> None:
    put(tmp_path, "1.json.gz", log_file(C), KEY.replace("111122223333", "nobody"))
    assert folders_of_lines(tmp_path) == {C: {"777788889999/us-east-1/2026/01/15/23"}}


def test_any_key_of_a_record_without_a_place_of_its_own_is_right(tmp_path: Path) -> None:
    put(tmp_path, "1.json.gz", log_file(A))
    put(tmp_path, "2.json.gz", log_file(A), KEY.replace("111122223333", "999900001111"))
    assert folders_of_lines(tmp_path)[A] == {
        HOUR_FOLDER,
        HOUR_FOLDER.replace("111122223333", "999900001111"),
    }


@pytest.mark.parametrize(
    "key",
    [
        KEY.replace("/CloudTrail/", "/CloudTrail-Digest/"),
        KEY.replace("/CloudTrail/", "/CloudTrail-Something/"),
        "elsewhere/" + KEY,
        KEY + ".txt",
    ],
)
def test_only_log_files_count(tmp_path: Path, key: str) -> None:
    put(tmp_path, "1.json.gz", log_file(A), key)
    assert not folders_of_lines(tmp_path)


def test_organizations_and_prefixes(tmp_path: Path) -> None:
    key = "o-x1/AWSLogs/o-x1/" + KEY.removeprefix("AWSLogs/")
    put(tmp_path, "1.json", b'\n {"Records":[' + A + b"]}\n", key)
    assert folders_of_lines(tmp_path, "o-x1") == {A: {HOUR_FOLDER}}


def test_all_zstd_frames_are_read(tmp_path: Path) -> None:
    text = b'{"Records":[' + A + b"]}"
    put(tmp_path, "1.json.gz", frame(text[:20]) + skippable_frame(B) + frame(text[20:]))
    put(tmp_path, "2.json.gz", frame(text.replace(A, B))[:-1])
    assert folders_of_lines(tmp_path) == {A: {HOUR_FOLDER}}


def test_all_gzip_members_are_read(tmp_path: Path) -> None:
    text = b'{"Records":[' + A + b"]}"
    put(
        tmp_path,
        "1.json.gz",
        gzip.compress(text[:20], mtime=0) + gzip.compress(text[20:], mtime=0),
    )
    assert set(folders_of_lines(tmp_path)) == {A}


def test_bytes_are_kept_and_line_ends_between_tokens_become_spaces(tmp_path: Path) -> None:
    pretty = (
        b'{"eventTime":\r\n "2026-01-15T10:00:00Z",\n"s":"\\n\\" \xc3\xbc\xff","i":' + b"9" * 5000
    )
    put(tmp_path, "1.json.gz", log_file(pretty + b"}"))
    line = pretty.replace(b"\r", b" ").replace(b"\n", b" ") + b"}"
    assert set(folders_of_lines(tmp_path)) == {line}


def test_what_has_no_place_belongs_in_quarantine(disk: Disk) -> None:
    records = (
        b"17",
        b'{"eventTime":"2026-02-30T10:00:00Z"}',
        b'{"eventTime":"2026-01-15T10:00:00Z","s":"a\nb"}',
    )
    put(disk.bucket, "3.json.gz", log_file(*records))
    assert len(disk.report().not_quarantined) == 3


def damage_tail(body: bytes) -> bytes:
    return body[:-6] + b"\0" + body[-5:]


@pytest.mark.parametrize(
    "body",
    [
        log_file(b"{}")[:-9],
        log_file(b"{}") + b"\0\0",
        damage_tail(log_file(b"{}")),
        b"",
        b"not JSON",
        gzip.compress(b'{"Records":[]}{}', mtime=0),
        gzip.compress(b'{"Records":[],"Records":[]}', mtime=0),
    ],
)
def test_damaged_log_files_are_listed_and_give_nothing(disk: Disk, body: bytes) -> None:
    put(disk.bucket, "3.json.gz", body)
    report = disk.report()
    report.assert_clean()
    assert [Path(name).name[-9:] for name in report.damaged_log_files] == ["3.json.gz"]


def test_complete_records_before_damaged_json_may_be_in_the_output(disk: Disk) -> None:
    extra = A.replace(b"1.688E9", b"2")
    put(disk.bucket, "3.json.gz", gzip.compress(b'{"Records":[' + extra + b"," + A[:20], mtime=0))
    disk.report().assert_clean()
    disk.write(f"{HOUR_FOLDER}/events_00002.jsonl", extra + b"\n")
    disk.report().assert_clean()
    disk.write(f"{HOUR_FOLDER}/events_00003.jsonl", extra + b"\n")
    assert set(disk.report().violations) == {"doubled"}
