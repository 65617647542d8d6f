"""The text with which a Dagster run in this process fails."""

from dagster import ExecuteInProcessResult


def failure_text(result: ExecuteInProcessResult) -> str:
    event = result.get_run_failure_event()
    failed = next(e for e in result.all_events if e.is_step_failure)
    assert event is not None
    assert failed.step_failure_data.error is not None
    return failed.step_failure_data.error.message
