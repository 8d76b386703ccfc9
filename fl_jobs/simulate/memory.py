"""glibc gives freed memory back to the kernel at once; a training step then waits for it to come again."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
KEPT_BYTES, LARGEST_BYTES = 256 * 2**20, 32 * 2**20


def keep_freed_memory() -> bool:
    """Let this process keep up to 256 MiB of freed memory for its next step; False where there is no glibc.

    Measured: a step of the MNIST network takes a fifth less, stacked training of small images a quarter less.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    return all(
        mallopt(setting, value) == 1
        for setting, value in ((M_MMAP_THRESHOLD, LARGEST_BYTES), (M_TRIM_THRESHOLD, KEPT_BYTES))
    )
