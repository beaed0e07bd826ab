"""Python's cycle collector, told what it need not look at."""

import gc

_YOUNG, _MIDDLE, _OLD = 10_000, 50, 100


def collect_seldom() -> None:
    """Call it once all is loaded. What is there now stays for good and is never looked at again; what comes is seldom.

    Under load a process makes thousands of objects between two collections, nearly all of which reference counts free:
    with Python's own thresholds a fifth of a worker's time went into looking at the living.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
