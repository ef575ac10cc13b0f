"""The C library's allocator: freed memory goes back to the system."""

import ctypes
import threading
import time

# mallopt(3).
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_LARGE_BLOCK_BYTES = 1 << 20
_ARENAS = 2
TRIM_SECONDS = 2.0


def return_large_blocks() -> None:
    """Have the C library return large blocks to the system as soon as they are freed.

    glibc raises the size from which it does so to that of the largest block freed so far, up to
    32 MB. Pillow allocates pixels in blocks of 16 MB: after a few large images they would stay
    allocated, fragmented, and the service's memory would stay high. Other C libraries are left as
    they are.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
        libc.mallopt(_M_ARENA_MAX, _ARENAS)


def start_trimming() -> None:
    """Start a thread that returns smaller freed blocks to the system every few seconds.

    Large bodies arrive in pieces of up to 256 kB. The C library keeps such blocks after they are
    freed, so one burst would raise the process's memory until it ends. malloc_trim(3) takes about
    1 ms.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        threading.Thread(target=_trim, args=(libc,), name="trim", daemon=True).start()


def _trim(libc: ctypes.CDLL) -> None:
    while True:
        time.sleep(TRIM_SECONDS)
        libc.malloc_trim(0)
