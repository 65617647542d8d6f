"""A sync over three servers where few files may be open, as on macOS: `ulimit -n 256`."""

import resource
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline.sample.bucket import ORGANIZATION_BUCKET, write_sample
from ctrail_pipeline_tests.support.fault_server import Faults, FaultServer
from ctrail_pipeline_tests.support.oracle import check_output
from ctrail_pipeline_tests.support.sync_process import settings_in, start_sync
from ctrail_pipeline_tests.support.thorough import thorough

SERVERS = 3
LIMIT = 256
LOG_FILES = 130


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A folder for each server, with a bucket of its own name in it."""
    folders = []
    for seed in range(SERVERS):
        folder = tmp_path_factory.mktemp("roots") / "root"
        write_sample(folder, log_files=LOG_FILES, days=1, seed=seed)
        (folder / ORGANIZATION_BUCKET).rename(folder / f"bucket-{seed}")
        folders.append(folder)
    return folders


@pytest.fixture
def served(roots: list[Path], tmp_path: Path) -> Iterator[tuple[Settings, dict[str, str]]]:
    """Each server is slow enough to be asked for many log files at once."""
    with ExitStack() as stack:
        servers = [stack.enter_context(FaultServer(root, Faults(latency=0.05))) for root in roots]
        trails = [
            Trail(f"trail-{at}", f"bucket-{at}", "", "us-east-1", server.endpoint_url)
            for at, server in enumerate(servers)
        ]
        changes = {"download_workers": 0, "batch_log_files": 400, "process_workers": 1}
        yield settings_in(tmp_path, trails, **changes), servers[0].env()


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs prlimit, which Linux has")
@pytest.mark.parametrize("hard_limit", [LIMIT, *thorough(4096)])
@pytest.mark.thorough
def test_few_open_files_are_enough(
    served: tuple[Settings, dict[str, str]], roots: list[Path], hard_limit: int
) -> None:
    """The soft limit is raised where that is allowed; else fewer connections are made and kept."""
    settings, environment = served
    process = start_sync(settings, environment=environment)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (LIMIT, hard_limit))
    ended = process.wait()
    assert ended.returncode == 0, (ended.summary, ended.stderr)
    buckets = [(root / f"bucket-{at}", "") for at, root in enumerate(roots)]
    check_output(settings.events_dir, settings.quarantine_dir, buckets).assert_clean()
