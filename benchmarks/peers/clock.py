"""The clock that passes are timed by: seconds on the wall, or with BENCHMARK_CLOCK=cpu those that this process's
threads worked, which other jobs on the machine disturb much less. Under OMP_WAIT_POLICY=PASSIVE waiting is no work."""

import os
import time

CPU = os.environ.get("BENCHMARK_CLOCK") == "cpu"
now = time.process_time if CPU else time.perf_counter
