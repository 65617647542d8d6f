"""How many random kills there are (`CTRAIL_KILLS`), and which ones (`CTRAIL_KILL_SEED`)."""

import os

KILLS = int(os.environ.get("CTRAIL_KILLS", "30"))
SEED = int(os.environ.get("CTRAIL_KILL_SEED", "1"))
