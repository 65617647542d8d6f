"""`ctrail queue setup --print`: what to create so that buckets say what is new.

Not here: the text (`reports.queue_setup`), and what is done with a queue (`core.listing`).
"""

import argparse
from typing import Final

from ctrail_pipeline.cli.exit_codes import EXIT_OK
from ctrail_pipeline.cli.options import Command

_DESCRIPTION = """\
Prints what to create so that the buckets of the configured trails say what is new: a queue,
its dead-letter queue, who may send to it, and the bucket's notification. Nothing is asked
and nothing is changed.
"""
_EPILOG = """\
The queue must be in the bucket's region. Afterwards name it in the trail's `queue`.

  ctrail queue setup --print > setup.sh                          commands of the AWS CLI
  ctrail queue setup --print terraform > ctrail.tf.json
  ctrail queue setup --print cloudformation --by eventbridge
"""
_FORMS = ("cli", "cloudformation", "terraform")


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("setup",), help="what a queue needs")
    parser.add_argument(
        "--print",
        dest="form",
        nargs="?",
        const=_FORMS[0],
        choices=_FORMS,
        required=True,
        help="in which form; without one, as commands of the AWS CLI",
    )
    parser.add_argument(
        "--by",
        choices=("s3", "eventbridge"),
        default="s3",
        help="who sends: the bucket itself (the default), or a rule of EventBridge",
    )


def _run(options: argparse.Namespace) -> int:
    from ctrail_pipeline.config.file import load_config
    from ctrail_pipeline.reports.queue_setup import setup_text

    print(setup_text(load_config().settings, options.form, options.by))
    return EXIT_OK


COMMAND: Final = Command(
    name="queue",
    summary="what to create for notifications of new log files",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_options=_add_options,
    run=_run,
)
