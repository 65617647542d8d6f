"""docs/parquet.md: its columns match the files, and its programs run on a synced sample."""

import json
import re
from pathlib import Path

import polars as pl
import pytest

from ctrail_pipeline.core.output.parquet import ROWS_A_GROUP
from ctrail_pipeline.core.output.parquet_schema import COLUMNS, INDEX, SCHEMA_VERSION, Leaf, Spec
from ctrail_pipeline.sample.bucket import write_sample
from ctrail_pipeline_tests.support.command import ctrail, output_of_program
from ctrail_pipeline_tests.support.markdown import blocks
from ctrail_pipeline_tests.support.project import PROJECT

DOCUMENT = PROJECT / "docs" / "parquet.md"
TEXT = DOCUMENT.read_text()
PROGRAMS = blocks(DOCUMENT, "python")
(TABLE,) = blocks(DOCUMENT, "sql")
HIVE = {Leaf.TEXT: "string", Leaf.JSON: "string", Leaf.FLAG: "boolean", Leaf.TIME: "timestamp"}
NAMED = {
    Leaf.TEXT: "text",
    Leaf.JSON: "JSON text",
    Leaf.FLAG: "boolean",
    Leaf.TIME: "timestamp",
}


def hive_type(spec: Spec) -> str:
    if isinstance(spec, dict):
        return (
            f"struct<{', '.join(f'{name}:{hive_type(member)}' for name, member in spec.items())}>"
        )
    if isinstance(spec, list):
        return f"array<{hive_type(spec[0])}>"
    return HIVE[spec]


def named_type(spec: Spec) -> str:
    return (
        "struct"
        if isinstance(spec, dict)
        else "list of structs"
        if isinstance(spec, list)
        else NAMED[spec]
    )


def members(spec: Spec) -> list[str]:
    if isinstance(spec, list):
        return members(spec[0])
    if isinstance(spec, dict):
        return [member for name, inner in spec.items() for member in (name, *members(inner))]
    return []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parquet")
    write_sample(folder / "sample", log_files=300)
    trails = [
        {"name": "organization", "bucket": (folder / "sample" / "example-org-trail").as_uri()}
    ]
    config = {"trails": trails, "output_formats": ["jsonl", "parquet"]}
    (folder / "config.json").write_text(json.dumps(config))
    assert ctrail(folder, "sync").returncode == 0
    return folder


def test_the_table_of_columns_is_that_of_the_files(folder: Path) -> None:
    found = re.findall(r"^\| `(\w+)` \| ([^|]+) \|(.*)\|$", TEXT, re.MULTILINE)
    path = next((folder / "parquet").rglob("*.parquet"))
    assert [name for name, _, _ in found] == list(pl.read_parquet_schema(path))
    for name, kind, text in found:
        if name in COLUMNS:
            assert kind == named_type(COLUMNS[name])
            assert re.findall(r"`(\w+)`", text) == members(COLUMNS[name])


def test_the_table_for_athena_has_the_same_columns() -> None:
    columns = TABLE.partition("(\n")[2].partition("\n)")[0]
    expected = [f"  {name} {hive_type(spec)}" for name, spec in COLUMNS.items()]
    expected += [f"  `{name}` string" for name in ("_other", "_bucket", "_key")]
    assert columns.split(",\n") == [*expected, f"  `{INDEX}` int"]


def test_numbers_that_it_names_are_those_of_the_code() -> None:
    assert f"{ROWS_A_GROUP:,} to a\nrow group" in TEXT
    assert f"`ctrail_schema_version` in a file's\nmetadata is {SCHEMA_VERSION}," in TEXT


def test_a_path_is_as_it_says(folder: Path) -> None:
    example = re.search(r"^parquet/account=.*$", TEXT, re.MULTILINE)
    assert example
    shape = re.sub(r"\d", "0", example[0]).replace("eu-central-0", "REGION")
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))
    assert shape in {
        re.sub(r"region=[a-z0-9-]+", "region=REGION", re.sub(r"\d", "0", path)) for path in paths
    }


@pytest.mark.parametrize("program", PROGRAMS, ids=["duckdb", "polars", "record"])
def test_a_program_shows_something(folder: Path, program: str) -> None:
    output = output_of_program(program, folder)
    assert len(output.splitlines()) > 6
