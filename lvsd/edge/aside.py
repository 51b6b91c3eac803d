"""Work in a thread for which nobody waits when lvsd stops, unlike those of `asyncio.to_thread`."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def aside(work: Callable[[], T], name: str) -> asyncio.Future[T]:
    """Begin `work` in a thread called `name`; return the future of what it returns or raises."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(settle_by: Callable[[], None]) -> None:
        if not done.done():
            settle_by()

    def run() -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            settling = partial(done.set_exception, error)
        else:
            settling = partial(done.set_result, result)
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, settling)

    Thread(target=run, daemon=True, name=name).start()
    return done
