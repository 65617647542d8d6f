"""`python -m ctrail_pipeline.sample` writes the sample bucket."""

import sys

from .bucket import main

sys.exit(main())
