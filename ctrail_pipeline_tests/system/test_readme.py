"""The README against the code: what it shows loads, runs, and is complete."""

import dataclasses
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from ctrail_pipeline.config.dagster_settings import DagsterSettings
from ctrail_pipeline.config.file import load_config
from ctrail_pipeline.config.keys import KEYS, NO_EFFECT, TRAIL_KEYS
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.orchestration.jobs.sync import SyncConfig
from ctrail_pipeline_tests.support.markdown import README, fenced
from ctrail_pipeline_tests.support.project import PROJECT

GOCLOUDTRAIL = (PROJECT / "docs" / "gocloudtrail.md").read_text()


def blocks(language: str) -> list[str]:
    return fenced(README, language)


def section(heading: str) -> str:
    """The text below a heading, up to the next heading."""
    [text] = re.findall(rf"^#+ {heading}\n(.*?)(?=^#)", README, re.DOTALL | re.MULTILINE)
    return str(text)


def table() -> dict[str, tuple[str, str]]:
    """Default and meaning by key, of the configuration table and of gocloudtrail's other keys."""
    rows = {}
    for keys, default, meaning in re.findall(
        r"^\| (`.*?) \| (.*?) \| (.*?) \|$", section("Configuration") + GOCLOUDTRAIL, re.MULTILINE
    ):
        names = re.findall(r"`([a-z_]+)`", keys)
        defaults = default.split(", ") if ", " in default else [default] * len(names)
        rows.update({name: (value, meaning) for name, value in zip(names, defaults, strict=True)})
    return rows


def test_the_table_names_every_key_and_no_other() -> None:
    assert set(table()) == set(KEYS)


def test_the_table_of_a_trail_names_every_key_of_one_and_no_other() -> None:
    rows = re.findall(r"^\| (`.*?) \| .*? \|$", section("A trail"), re.MULTILINE)
    assert set(re.findall(r"`([a-z_]+)`", " ".join(rows))) == set(TRAIL_KEYS)


def test_the_policies_allow_what_is_needed_and_no_more() -> None:
    allowed = {
        statement["Action"]: statement["Resource"]
        for block in blocks("json")
        if "Statement" in block
        for statement in json.loads(block)["Statement"]
    }
    assert list(allowed) == [
        *("s3:ListBucket", "s3:GetObject", "kms:Decrypt"),
        *("sts:AssumeRole", "cloudtrail:DescribeTrails"),
    ]
    # CloudTrail knows no narrower resource for this action.
    assert [action for action, resource in allowed.items() if resource == "*"] == [
        "cloudtrail:DescribeTrails"
    ]


def test_what_only_gocloudtrail_has_is_not_in_the_readme() -> None:
    assert not [key for key in NO_EFFECT if f"`{key}`" in README]


def test_the_table_tells_which_keys_have_no_effect_and_why() -> None:
    silent = {key for key, (_, meaning) in table().items() if meaning.startswith("no effect")}
    assert silent == set(NO_EFFECT)
    for key in silent:
        assert NO_EFFECT[key][1] in table()[key][1].replace("`", "")


def test_the_table_has_the_defaults_of_the_code() -> None:
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    fields |= {field.name: field for field in dataclasses.fields(DagsterSettings)}
    fields["dial_timeout"] = fields["connect_timeout"]
    for key, (default, _) in table().items():
        field = fields.get(key)
        if field is None or field.default in (dataclasses.MISSING, None, ()):
            continue
        default_of_code = field.default
        if isinstance(default_of_code, tuple):
            default_of_code = list(default_of_code)
        assert json.loads(default.strip("`")) == default_of_code, key


def test_the_example_configuration_loads(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(blocks("json")[0])
    loaded = load_config({}, tmp_path)
    assert [trail.name for trail in loaded.settings.trails] == [
        trail["name"] for trail in json.loads(blocks("json")[0])["trails"]
    ]


def test_the_example_run_config_is_one_of_the_job() -> None:
    for block in blocks("yaml"):
        values = yaml.safe_load(block)["ops"]["sync"]["config"]
        selection = SyncConfig(**values).selection()
        assert selection.start is not None
        assert selection.trails == ["organization"]


@pytest.mark.parametrize("target", ["demo", "test"])
def test_make_targets_that_it_names_are_there(target: str) -> None:
    assert f"make {target}" in blocks("sh")[0]
    done = subprocess.run(
        ["make", "-n", target], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_pictures_are_there_and_load_nothing_from_elsewhere() -> None:
    pictures = re.findall(r"!\[.+\]\((.+?)\)", README)
    assert pictures
    for picture in pictures:
        assert (PROJECT / picture).is_file(), picture
        if not picture.endswith(".svg"):
            continue
        content = (PROJECT / picture).read_text()
        assert not re.search(r"url\((?!#|\"#|'#)|@font-face|<image|<script|href=", content)
