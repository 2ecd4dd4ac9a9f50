"""Work of nobody: ``python -m ops.bench.hostile.elsewhere SHARE`` keeps so much of a CPU busy.

It works in slices, as the bad clients do, is connected to nothing, and ends after `LONGEST`.
"""

import sys
import time
from typing import Final

LONGEST: Final = 120.0
PERIOD: Final = 0.005


def main(share: float) -> None:
    """Be busy for this share of every period."""
    over = time.perf_counter() + LONGEST
    while (began := time.perf_counter()) < over:
        while time.perf_counter() - began < share * PERIOD:
            pass
        time.sleep(max(0.0, began + PERIOD - time.perf_counter()))


if __name__ == "__main__":
    main(float(sys.argv[1]))
