"""Run a campaign: python -m ctrail_pipeline_tests.torture --minutes N --seed S."""

import argparse
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from .campaign import Campaign
from .output_server import OUTPUTS, output_server
from .server import LEDGERS, ledger_server


def main() -> int:
    """Run a campaign. Return 0 if no promise was broken."""
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, help="which steps (a random one, printed)")
    parser.add_argument("--world", type=int, default=0, help="begin with this world of the seed")
    parser.add_argument("--ledger", choices=LEDGERS, default=LEDGERS[0], help="where ledgers are")
    parser.add_argument("--output", choices=OUTPUTS, default=OUTPUTS[0], help="where outputs are")
    parser.add_argument("--folder", type=Path, help="where to work; kept (a temporary one)")
    parser.add_argument("--json", action="store_true", help="the report as one JSON object")
    parser.add_argument("--quiet", action="store_true", help="do not name each step")
    options = parser.parse_args()
    seed = secrets.randbelow(1 << 31) if options.seed is None else options.seed
    folder = options.folder or Path(tempfile.mkdtemp(prefix="ctrail-torture-"))

    def say(text: str) -> None:
        if not options.quiet:
            print(text, file=sys.stderr, flush=True)

    say(f"seed {seed}, in {folder}")
    with ledger_server(options.ledger) as server, output_server(options.output) as outputs:
        campaign = Campaign(folder, seed, say, server, outputs)
        tally = campaign.run(options.minutes * 60, first_world=options.world)
    print(tally.as_json() if options.json else tally.as_table())
    if not options.folder and not tally.violations:
        shutil.rmtree(folder)
    return 1 if tally.violations else 0


if __name__ == "__main__":
    sys.exit(main())
