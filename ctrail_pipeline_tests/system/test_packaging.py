"""The sdist and the wheel build, and work where only their declared dependencies are installed.

The tests need no package index. They link the declared dependencies, and the dependencies of these,
from the environment that runs the tests. So they show that the declaration suffices. `make test`
installs from an index, which shows that the index has all of it.
"""

import importlib.metadata
import json
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from ctrail_pipeline import __version__
from ctrail_pipeline_tests.support.command import BUCKETS, environment
from ctrail_pipeline_tests.support.oracle import check_output
from ctrail_pipeline_tests.support.project import PROJECT

pytest.importorskip("hatchling", reason="hatchling is not installed")

NOT_DECLARED = ("pytest", "moto", "hypothesis", "duckdb", "hatchling", "ctrail_pipeline_tests")


def run(*command: "str | Path", cwd: Path) -> "subprocess.CompletedProcess[str]":
    variables = environment()
    del variables["PYTHONPATH"]
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    done = run(
        *(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder), cwd=PROJECT
    )
    assert done.returncode == 0, done.stderr
    [built] = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist, as packagers elsewhere do."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as sdist_file:
        sdist_file.extractall(folder, filter="data")
    [source] = folder.iterdir()
    done = run(
        *(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder), cwd=source
    )
    assert done.returncode == 0, done.stderr
    [built] = folder.glob("*.whl")
    return built


def declared(wheel: Path) -> list[Requirement]:
    with zipfile.ZipFile(wheel) as wheel_file:
        [name] = [name for name in wheel_file.namelist() if name.endswith("/METADATA")]
        metadata = wheel_file.read(name).decode()
    found = re.findall(r"^Requires-Dist: (.+)$", metadata, re.MULTILINE)
    return [Requirement(text) for text in found]


def closure(requirements: list[Requirement]) -> Iterator[importlib.metadata.Distribution]:
    """The distributions in this environment that the requirements need, directly or indirectly."""
    seen: set[tuple[str, frozenset[str]]] = set()
    pending = [(requirement, "") for requirement in requirements]
    while pending:
        requirement, extra = pending.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        key = (requirement.name.lower(), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        found = importlib.metadata.distribution(requirement.name)
        assert requirement.specifier.contains(found.version, prereleases=True), requirement
        yield found
        needed = [Requirement(text) for text in found.requires or ()]
        pending += [
            (dependency, extra) for dependency in needed for extra in ("", *requirement.extras)
        ]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the wheel and what it declares."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    [packages] = folder.glob("lib/python*/site-packages")
    for distribution in closure(declared(wheel)):
        for name in {file.parts[0] for file in distribution.files or ()}:
            target = packages / name
            if name not in ("..", "__pycache__") and not target.exists():
                target.symlink_to(Path(str(distribution.locate_file(name))))
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install")
    done = run(*pip, "--no-deps", "--no-index", "--no-compile", wheel, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def test_the_sdist_holds_the_project_and_nothing_that_was_made(sdist: Path) -> None:
    with tarfile.open(sdist) as sdist_file:
        names = {name.partition("/")[2] for name in sdist_file.getnames()}
    assert names >= {
        *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE"),
        *("pyproject.toml", "Makefile"),
        *("constraints.txt", "scripts/test", "ctrail_pipeline_tests/system/test_packaging.py"),
        *(
            "ctrail_pipeline/core/ledger/schema.sql",
            "ctrail_pipeline/py.typed",
            "docs/progress.svg",
        ),
    }
    assert not [name for name in names if re.search(r"\.pyc|\.venv|\.db|^events|^sample/", name)]


def test_the_wheel_holds_the_package_only(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as wheel_file:
        names = wheel_file.namelist()
    assert {name.partition("/")[0] for name in names} == {
        "ctrail_pipeline",
        f"ctrail_pipeline-{__version__}.dist-info",
    }
    modules = {
        path.relative_to(PROJECT).as_posix() for path in PROJECT.glob("ctrail_pipeline/**/*.py")
    }
    assert modules < set(names)


def test_nothing_is_there_that_is_not_declared(installed: Path, tmp_path: Path) -> None:
    for name in NOT_DECLARED:
        assert (
            "No module named"
            in run(installed / "python", "-c", f"import {name}", cwd=tmp_path).stderr
        )
    imported = run(
        installed / "python", "-c", "import ctrail_pipeline as c; print(c)", cwd=tmp_path
    )
    assert str(installed.parent) in imported.stdout


def test_ctrail_works_from_the_first_step_to_the_last(installed: Path, tmp_path: Path) -> None:
    ctrail = installed / "ctrail"
    assert run(ctrail, "--version", cwd=tmp_path).stdout == f"ctrail {__version__}\n"
    assert "ctrail sync --since 6h" in run(ctrail, "--help", cwd=tmp_path).stdout
    sample = run(ctrail, "sample", "--log-files", "60", cwd=tmp_path)
    assert sample.returncode == 0, sample.stderr
    sync = run(ctrail, "sync", cwd=tmp_path)
    assert sync.returncode == 0, sync.stderr
    buckets = [(tmp_path / "sample" / bucket, prefix) for bucket, prefix in BUCKETS]
    check_output(tmp_path / "events", tmp_path / "quarantine", buckets).assert_clean()
    status = run(ctrail, "status", "--json", cwd=tmp_path)
    assert len(json.loads(status.stdout)["partitions"]) > 5
    assert "all 1" in run(ctrail, "status", cwd=tmp_path).stdout
    query = run(ctrail, "query", "SELECT 1", cwd=tmp_path)
    assert "pip install 'ctrail-pipeline[query]'" in query.stderr


@pytest.mark.thorough
def test_dagster_loads_it_from_there(installed: Path, tmp_path: Path) -> None:
    code = "from ctrail_pipeline.definitions import defs; print(defs.get_job_def('sync').name)"
    done = run(installed / "python", "-c", code, cwd=tmp_path)
    assert done.stdout == "sync\n", done.stderr


@pytest.mark.thorough
def test_what_reads_s3_is_there(installed: Path, tmp_path: Path) -> None:
    code = "import boto3, isal, msgspec, obstore, polars, pycurl, rbloom, rich, xxhash, dagster_aws"
    done = run(installed / "python", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
