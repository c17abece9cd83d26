"""When this process began to import jaxes: the start of the timeline that a run shows."""

import time

STARTED = time.monotonic()
