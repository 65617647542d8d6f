"""`python -m ctrail_pipeline.cli` is the command `ctrail`."""

import sys

from .main import main

sys.exit(main())
