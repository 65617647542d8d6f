"""README and docs/ name only jobs, assets, checks, keys and files that exist, and sum up right."""

import json
import re
import shlex
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml
from dagster import AssetKey, Definitions

from ctrail_pipeline.cli.main import command_parser
from ctrail_pipeline.config.dagster_settings import DagsterSettings
from ctrail_pipeline.config.file import load_config
from ctrail_pipeline.config.keys import KEYS
from ctrail_pipeline.core.bucket.prices import DOLLARS_A_GET, DOLLARS_A_LIST
from ctrail_pipeline.core.listing.look_frequency import (
    DISCOVERY_SECONDS_AN_ACCOUNT,
    affordable_lists,
    idle_rounds,
)
from ctrail_pipeline.definitions import build_definitions
from ctrail_pipeline.orchestration.checks import COMPLETE, DESCRIPTIONS
from ctrail_pipeline.orchestration.jobs.accept import AcceptConfig
from ctrail_pipeline.orchestration.jobs.sync import SyncConfig
from ctrail_pipeline.orchestration.notification_check import NOTIFIED
from ctrail_pipeline_tests.support.markdown import blocks
from ctrail_pipeline_tests.support.project import PROJECT

DAGSTER, SERVICE = PROJECT / "docs/dagster.md", PROJECT / "docs/service.md"
ARCHITECTURE = PROJECT / "docs/architecture.md"
DOCUMENTS = [
    PROJECT / "README.md",
    DAGSTER,
    SERVICE,
    PROJECT / "docs/gocloudtrail.md",
    PROJECT / "docs/parquet.md",
    PROJECT / "docs/verify.md",
    PROJECT / "docs/compaction.md",
    PROJECT / "docs/compression.md",
    PROJECT / "docs/bucket-output.md",
    PROJECT / "docs/torture.md",
    PROJECT / "docs/torture-results.md",
    ARCHITECTURE,
    PROJECT / "CONTRIBUTING.md",
    PROJECT / "docs/hostile-input.md",
    PROJECT / "docs/odd-servers.md",
]
MONTH_SECONDS = 30 * 86_400

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


@pytest.fixture
def definitions(tmp_path: Path) -> Definitions:
    return build_definitions(load_config({}, tmp_path))  # the sample trails


@each_document
def test_jobs_and_assets_that_commands_name_are_there(
    document: Path, definitions: Definitions
) -> None:
    text = "\n".join(blocks(document, "sh"))
    for job in re.findall(r" -j (\S+)", text):
        assert definitions.resolve_job_def(job).name == job
    for key in re.findall(r"""'key:"([^"]+)"'""", text):
        assert definitions.resolve_assets_def(AssetKey(key.split("/"))).key.path == key.split("/")


@each_document
def test_files_that_links_name_are_there(document: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", document.read_text()):
        if link.startswith("#"):
            headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
            anchors = {
                re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings
            }
            assert link[1:] in anchors, link
            continue
        assert link.startswith("https://") or (document.parent / link).is_file(), link


@each_document
def test_paths_of_code_that_are_named_are_there(document: Path) -> None:
    named = re.findall(
        r"`((?:core|cli|config|orchestration|reports|sample|ctrail_pipeline\w*|benchmarks|scripts)"
        r"/[\w./]+)`",
        document.read_text(),
    )
    for path in named:
        assert (PROJECT / path).exists() or (PROJECT / "ctrail_pipeline" / path).exists(), path


def test_every_room_is_described() -> None:
    described = re.findall(r"`((?:core/)?\w+)` +\|", ARCHITECTURE.read_text())
    package = PROJECT / "ctrail_pipeline"
    for room in (*package.iterdir(), *(package / "core").iterdir()):
        if (room / "__init__.py").is_file() and room.name != "core":
            assert room.relative_to(package).as_posix() in described


@each_document
def test_configurations_and_run_configs_load(document: Path, tmp_path: Path) -> None:
    for block in blocks(document, "json"):
        if '"Statement"' in block:  # a policy for AWS
            assert json.loads(block)["Version"] == "2012-10-17"
            continue
        (tmp_path / "config.json").write_text(block)
        names = [trail.name for trail in load_config({}, tmp_path).settings.trails]
        assert names == [trail["name"] for trail in json.loads(block)["trails"]]
    for block in blocks(document, "yaml"):
        [(name, op)] = yaml.safe_load(block)["ops"].items()
        config = {"sync": SyncConfig, "accept": AcceptConfig}[name](**op["config"])
        assert config.keys if isinstance(config, AcceptConfig) else config.selection().trails


@each_document
def test_commands_of_ctrail_that_are_named_are_there(document: Path) -> None:
    for line in re.findall(r"^\.venv/bin/ctrail (.+)$", document.read_text(), re.MULTILINE):
        assert command_parser().parse_args(shlex.split(line)).run


def test_every_check_is_explained() -> None:
    explained = re.findall(r"^\| `([a-z_]+)` \|", DAGSTER.read_text(), re.MULTILINE)
    assert set(explained) == {*DESCRIPTIONS, COMPLETE, NOTIFIED}


def test_keys_of_the_configuration_that_are_named_exist() -> None:
    named = {"sensor", "sensor_interval", "materialization_interval", "no_events_hours"}
    named |= {"quarantine_dir", "horizon_days"}
    assert named <= set(KEYS)
    assert all(f"`{key}`" in DAGSTER.read_text() for key in named)


def test_what_a_look_costs_is_what_the_code_does() -> None:
    dagster = DagsterSettings()
    looks = MONTH_SECONDS // dagster.sensor_interval
    affordable = affordable_lists(dagster.listing_budget, dagster.sensor_interval)
    assert f"{affordable:,.0f}\nLISTs a look" in DAGSTER.read_text()
    finding = MONTH_SECONDS / DISCOVERY_SECONDS_AN_ACCOUNT * DOLLARS_A_LIST
    rows = [
        [float(cell.strip(" %").replace(",", "")) for cell in row.strip("|").split("|")]
        for row in re.findall(r"^\| [0-9,]+ \|.*\|$", DAGSTER.read_text(), re.MULTILINE)
    ]
    assert len(rows) == 4
    for partitions, percent, rest, requests, monthly, dollars, discovery, together in rows:
        active = partitions * percent / 100
        rounds = idle_rounds(int(partitions), int(partitions - active), affordable)
        assert requests == active + (partitions - active) / rounds
        assert rest == (rounds - 1) * dagster.sensor_interval / 60
        assert monthly == requests * looks
        assert dollars == round(monthly * DOLLARS_A_LIST, 2)
        assert discovery == round(finding, 2)
        assert together == round(dollars + discovery, 2)


def test_what_requests_of_a_bucket_cost_is_summed_up_right() -> None:
    rows = re.findall(
        r"^\| ([0-9,]+) \| ([0-9,]+) \| ([0-9.]+) \| ([0-9.]+) \|$",
        (PROJECT / "docs/bucket-output.md").read_text(),
        re.MULTILINE,
    )
    assert len(rows) == 3
    for row in rows:
        accounts, files, dollars, compacted = (float(cell.replace(",", "")) for cell in row)
        folders, runs = 2 * accounts, 24 * 12
        assert files == folders * runs
        puts, gets = 2 * files + 11 * runs, files + 3 * runs
        cost = puts * DOLLARS_A_LIST + gets * DOLLARS_A_GET
        assert dollars == round(cost, 2)
        merged = 24 * folders
        cost += 2 * merged * DOLLARS_A_LIST + (files + merged) * DOLLARS_A_GET
        assert compacted == round(cost, 2)


def test_units_start_what_is_installed_in_the_folder_of_the_workspace() -> None:
    units = blocks(SERVICE, "ini")
    assert len(units) == 2
    for text in units:
        unit = ConfigParser(strict=False)  # `Environment` is there twice
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read_string(text)
        service = unit["Service"]
        program, *arguments = service["ExecStart"].split()
        assert program.startswith(f"{service['WorkingDirectory']}/.venv/bin/dagster-")
        assert arguments[arguments.index("-w") + 1] == "workspace.yaml"
        assert (service["Restart"], service["UMask"], service["User"]) == (
            "always",
            "0077",
            "ctrail",
        )
        assert "KillMode" not in service
        assert text.count("Environment=DAGSTER_HOME=/var/lib/ctrail/dagster\n") == 1
        assert text.count("Environment=CTRAIL_CONFIG=/etc/ctrail/config.json\n") == 1


@pytest.mark.parametrize("document", ["SECURITY.md", "docs/hostile-input.md"])
def test_tests_that_are_named_are_there(document: str) -> None:
    text = (PROJECT / document).read_text()
    named = re.findall(r"`((?:\w+/)*test_\w+)(?:::(test_\w+))?`", text)
    assert named
    for module, test in named:
        code = (PROJECT / f"ctrail_pipeline_tests/{module}.py").read_text()
        assert not test or f"def {test}(" in code, f"{module}::{test}"


def test_the_web_ui_is_for_this_machine_only() -> None:
    """Dagster's UI has no login, so neither a default nor advice serves it on another interface."""
    from dagster_webserver.cli import DEFAULT_WEBSERVER_HOST  # 2.4 s of CPU, not for each worker

    assert DEFAULT_WEBSERVER_HOST == "127.0.0.1"
    texts = [path.read_text() for path in (PROJECT / "Makefile", *DOCUMENTS)]
    served = [
        line for text in texts for line in text.splitlines() if re.search(r"(-h|--host)[ =]", line)
    ]
    assert len(served) >= 2
    assert all(re.search(r"(-h|--host)[ =]127\.0\.0\.1 ", line) for line in served)
    assert "0.0.0.0" not in "".join(texts)
