"""An audit can rely on dependencies that are declared, used and pinned, and on security rules."""

import ast
import re
import tokenize
import tomllib
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement

from ctrail_pipeline_tests.support.project import PROJECT

METADATA = tomllib.loads((PROJECT / "pyproject.toml").read_text())
PYTHON = [
    *(path for name in ("ctrail_pipeline", "scripts") for path in (PROJECT / name).rglob("*.py")),
]
SPARED = re.compile(r"#\s*noqa: (?P<rules>[A-Z0-9, ]+?)(?: - (?P<reason>.+))?$")
NOT_IMPORTED = {"boto3", "dagster_aws"}
"""Packages that are installed and not imported: README says why."""


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(str(node.module).partition(".")[0])
    return names


def test_what_is_declared_is_used() -> None:
    declared = {
        Requirement(text).name.replace("-", "_").partition(".")[0]
        for text in METADATA["project"]["dependencies"]
    }
    package = PROJECT / "ctrail_pipeline"
    used = set().union(*(imported(path) for path in package.rglob("*.py")))
    assert declared - used == NOT_IMPORTED


def test_every_pin_is_one_release() -> None:
    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert len(pins) > 100
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", pin)] == []


def test_pins_fit_what_is_declared() -> None:
    pins = dict(
        line.lower().replace("_", "-").split("==")
        for line in (PROJECT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    )
    extras = METADATA["project"]["optional-dependencies"].values()
    for text in (*METADATA["project"]["dependencies"], *chain.from_iterable(extras)):
        requirement = Requirement(text)
        assert pins[requirement.name.lower().replace("_", "-")] in requirement.specifier, text


def test_security_rules_are_on_and_whoever_is_spared_says_why() -> None:
    lint = METADATA["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    assert not [rule for rule in lint["ignore"] if re.fullmatch(r"S\d*", rule)]
    spared = []
    for path in PYTHON:
        with path.open("rb") as file:
            for token in tokenize.tokenize(file.readline):
                found = SPARED.search(token.string) if token.type == tokenize.COMMENT else None
                if found and re.search(r"\bS\d", found["rules"]):
                    spared.append((path.name, token.start[0], found["reason"]))
    assert len(spared) > 3
    assert [(name, line) for name, line, reason in spared if not reason] == []
