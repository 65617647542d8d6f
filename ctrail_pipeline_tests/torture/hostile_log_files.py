"""Sound log files of 30 to 200 records that are hard to split into records.

The records are those of usual log files, each with its own eventID. The oracle can judge all of
them: nothing is nested more deeply than Python's own JSON decoder goes.
"""

import gzip
from random import Random

from ctrail_pipeline_tests.support.oracle import records_in

HEAD = b'{"Records":['
TAIL = b"]}"
_ID = b'"eventID":"'
_DEEPEST = 400


def hostile_log_file(text: bytes, rng: Random) -> bytes:
    """Return a gzip of many records that resemble those of this text of a log file."""
    usual = [record for record, _ in records_in(text)]
    many = rng.choice([30, 60, 200])
    kinds = rng.sample(_KINDS, 3)
    odd = set(rng.sample(range(many), rng.randrange(1, 12)))
    elements: list[bytes] = []
    for number in range(many):
        record = _with_new_id(rng.choice(usual), rng)
        elements += rng.choice(kinds)(record, rng) if number in odd else [record]
    separator, end = b",", b""
    style = rng.random()
    if style < 0.1:
        separator = b",\n"  # so the log file cannot be streamed
    elif style < 0.2:
        end = rng.choice([b"\n", b" "])
    text = HEAD + separator.join(elements) + TAIL + end
    if rng.random() < 0.15:
        cuts = sorted(rng.randrange(len(text)) for _ in range(rng.randrange(1, 4)))
        starts, ends = [0, *cuts], [*cuts, len(text)]
        members = zip(starts, ends, strict=True)
        return b"".join(gzip.compress(text[start:stop], mtime=0) for start, stop in members)
    return gzip.compress(text, rng.choice([0, 1, 6, 9]), mtime=0)


def _with_new_id(record: bytes, rng: Random) -> bytes:
    before, _, after = record.partition(_ID)
    return before + _ID + b"%032x" % rng.getrandbits(128) + after[after.index(b'"') :]


def _with_line_feeds(record: bytes, rng: Random) -> list[bytes]:
    """Return a record with line feeds between tokens or in a string, which no line can hold."""
    inside = b',"note":"one\nother %d"}' % rng.randrange(10**9)
    return [
        rng.choice(
            [
                record.replace(b',"eventTime"', b',\n\r\n  "eventTime"'),
                record.replace(b'{"eventVersion"', b'{\n"eventVersion"'),
                record[:-1] + inside,
            ]
        )
    ]


def _nested(record: bytes, rng: Random) -> list[bytes]:
    depth = rng.randrange(30, _DEEPEST)
    lists = b"[" * depth + b"]" * depth
    objects = b'{"a":' * depth + b"1" + b"}" * depth
    return [record[:-1] + b',"nested":' + rng.choice([lists, objects]) + b"}"]


def _like_two(record: bytes, rng: Random) -> list[bytes]:
    """Return a record with a part that looks like the border between two records."""
    inside = rng.choice(
        [b'[{"a":1},{"eventVersion":"1"}]', b'[{"a":{}},{"event":{"b":2},"c":[{}]}]']
    )
    return [record[:-1] + b',"events":' + inside + b"}"]


def _like_two_in_text(record: bytes, rng: Random) -> list[bytes]:
    return [record[:-1] + b',"text":"\\"},{\\"eventVersion\\":\\"%d\\"},{"}' % rng.randrange(10**9)]


def _beside_what_is_none(record: bytes, rng: Random) -> list[bytes]:
    number = rng.randrange(10**9)
    no_event = rng.choice(
        [
            b'{"eventName":"NoTime%d"}' % number,
            b'{"eventTime":"yesterday","eventID":"%d"}' % number,
            b'["},{",%d]' % number,
            b"%d" % number,
        ]
    )
    return [record, no_event, _with_new_id(record, rng)]


def _long(record: bytes, rng: Random) -> list[bytes]:
    """Return a record that is longer than a chunk, or than all that is split at once."""
    return [record[:-1] + b',"long":"%s"}' % (b"x" * rng.choice([3_000, 3_000, 12_000, 30_000]))]


def _again(record: bytes, rng: Random) -> list[bytes]:
    """Return the same line three times, with another record in between."""
    return [record, record, _with_new_id(record, rng), record]


_KINDS = (
    *(_with_line_feeds, _nested, _like_two, _like_two_in_text, _beside_what_is_none, _long),
    _again,
)
