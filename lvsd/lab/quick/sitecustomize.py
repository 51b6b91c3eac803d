"""Python imports this module by its name as it starts, where PYTHONPATH leads here."""

from __future__ import annotations

import ctypes

_SIZE = 40 << 20
_PIECE = 1 << 20
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_MADV_POPULATE_WRITE = 23
_PROT_READ, _PROT_WRITE = 1, 2


def populate_heap(size: int) -> None:
    """Let the C library's heap grow by `size` bytes at once, and have the kernel provide all its pages."""
    libc = ctypes.CDLL(None)
    libc.sbrk.restype = libc.malloc.restype = ctypes.c_void_p
    for setting, number in ((_M_TOP_PAD, size), (_M_TRIM_THRESHOLD, 1 << 30), (_M_MMAP_THRESHOLD, 1 << 30)):
        libc.mallopt(setting, number)
    begin = -(-libc.sbrk(0) // 4096) * 4096
    libc.free(ctypes.c_void_p(libc.malloc(_PIECE)))
    heap, length = ctypes.c_void_p(begin), ctypes.c_size_t(libc.sbrk(0) - begin)
    libc.madvise(heap, length, _MADV_POPULATE_WRITE)
    # User-mode-linux has the pages now, but would tell the host of each when it is touched. When rights
    # change, it tells the host of all.
    for rights in (_PROT_READ, _PROT_READ | _PROT_WRITE):
        libc.mprotect(heap, length, rights)


populate_heap(_SIZE)
