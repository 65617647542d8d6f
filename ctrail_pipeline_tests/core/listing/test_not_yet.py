"""A trail that was made a few minutes ago is no failure, and a trail with a wrong prefix is one."""

from pathlib import Path

from ctrail_pipeline.core.audit.compare import compare
from ctrail_pipeline.core.listing.look import look
from ctrail_pipeline.core.listing.look_cursor import LookCursor
from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run.dry_run import estimate
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.orchestration.sensors import request_for, seen_line
from ctrail_pipeline.reports.sentences import estimate_line, summary_line
from ctrail_pipeline.reports.sync_json import as_json
from ctrail_pipeline.reports.verify_text import notes
from ctrail_pipeline_tests.support.new_log_files import NOW, put
from ctrail_pipeline_tests.support.sync_process import local_trail, settings_in

SAID = (
    "trail main: no log files yet; CloudTrail delivers the first about five minutes after something"
    " happened"
)


def test_every_report_says_that_there_are_no_log_files_yet(tmp_path: Path) -> None:
    bucket = tmp_path / "bucket"
    (bucket / "AWSLogs/111122223333/CloudTrail").mkdir(parents=True)
    settings = settings_in(tmp_path, [local_trail(bucket, name="main")], process_workers=1)
    problems: list[Problem] = []

    (trail,) = estimate(settings, Selection(), problems.append)
    assert (estimate_line(trail), problems) == (SAID, [])

    summary = sync(settings)
    assert summary.ok
    assert SAID in summary_line(summary)
    assert as_json(summary)["not_yet"] == ["main"]

    report = compare(settings)
    assert report.is_complete
    assert SAID in notes(report)

    result = look(settings, LookCursor(), 25)
    assert (result.problems, result.backlog) == ([], [])
    assert SAID in seen_line(result, 300)
    assert request_for("backlog", result) is None

    put(bucket, "111122223333", "eu-west-1", NOW, "A")
    summary = sync(settings)
    assert (summary.progress.log_files, summary.not_yet) == (1, [])
