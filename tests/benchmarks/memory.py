"""How glibc is told to keep freed memory, so that no benchmark waits for the system by luck."""

import ctypes
import platform

# Parameters of glibc's mallopt, from malloc.h, and values that make it keep what is freed.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
NEVER_TRIM = 2**31 - 1
LARGEST_MMAP_THRESHOLD = 2**25


def keep_freed_memory() -> None:
    """Keep it in this process: given back to the system or not by luck makes a factor of two."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        assert libc.mallopt(M_TRIM_THRESHOLD, NEVER_TRIM)
        assert libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
