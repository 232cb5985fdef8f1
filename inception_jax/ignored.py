"""Notices an exception that Python ignores: one raised in a callback of the garbage collector, or in `__del__`.

A handler of signals may be run there, and what it raises is then printed and lost.
"""

import sys
import threading
from collections.abc import Callable
from typing import TypeVar

E = TypeVar("E", bound=BaseException)
_MOMENT = 0.05  # seconds after which the callback has ended


def notice(kind: type[E], call: Callable[[E], None]) -> Callable[[], None]:
    """Has `call(exception)` called, in another thread, a moment after Python has ignored one of this kind.

    Returns:
      A function that ends this.
    """
    usual = sys.unraisablehook

    def hook(unraisable) -> None:
        if not isinstance(unraisable.exc_value, kind):
            usual(unraisable)
            return
        timer = threading.Timer(_MOMENT, call, [unraisable.exc_value])
        timer.daemon = True
        timer.start()

    def end() -> None:
        sys.unraisablehook = usual

    sys.unraisablehook = hook
    return end
