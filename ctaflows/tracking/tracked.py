"""The base class of tasks and flows, and the rule that decides whether a call is tracked.

A `Tracked` object is a plain function. It is also Prefect's object for that function, which is
created at the first use: a program that tracks nothing never imports Prefect (1 s, 80 MB).
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from ctaflows.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_mode: ContextVar[str | None] = ContextVar("ctaflows_track", default=None)


@contextmanager
def tracking(mode: str) -> Iterator[None]:
    """Override ``CTAFLOWS_TRACK`` within a block.

    Parameters
    ----------
    mode : str
        ``auto`` (track inside Prefect runs), ``always`` or ``never``.
    """
    token = _mode.set(mode)
    try:
        yield
    finally:
        _mode.reset(token)


def is_tracked() -> bool:
    """Return whether a call of an operation would be tracked by Prefect in this context.

    Raises
    ------
    UsageError
        The mode is none of ``auto``, ``always`` and ``never``.
    """
    mode = _mode.get() or os.environ.get("CTAFLOWS_TRACK") or "auto"
    if mode == "auto":
        return in_run()
    if mode == "always":
        return True
    if mode == "never":
        return False
    raise UsageError(
        f"CTAFLOWS_TRACK is {mode!r}",
        hint="Set it to auto (track inside Prefect runs), always or never.",
    )


def in_run() -> bool:
    """Return whether this is in a Prefect flow run or task run, or in ``Flow.visualize``."""
    # in a run, prefect.context has been imported
    context = sys.modules.get("prefect.context")
    if context is None:
        return False
    for name in ("FlowRunContext", "TaskRunContext"):
        # missing while another thread is still importing the module
        kind = getattr(context, name, None)
        if kind is not None and kind.get() is not None:
            return True
    # Flow.visualize calls the function outside any run, and relies on tasks not to run their
    # functions (prefect 3.9.1, flows.py: visualize).
    visualization = sys.modules.get("prefect.utilities.visualization")
    return visualization is not None and visualization.get_task_viz_tracker() is not None


class Tracked:
    """A plain function that is also Prefect's object for it, a task or a flow.

    Parameters
    ----------
    fn : Callable
        The function, synchronous and typed.
    options : dict
        Options of Prefect's decorator; of ``with_options`` where there is a `base`.
    base : Tracked, optional
        The object from which ``with_options`` made this one.

    Raises
    ------
    TypeError
        The function is asynchronous.
    """

    # Not in __dict__: Prefect's Dask client copies that into the function it sends to workers
    # (prefect-dask 0.3.7, client.py: wraps), and a lock or the function's globals can't be pickled.
    __slots__ = ("_base", "_lock", "_options", "_real", "fn")

    #: Module and name of Prefect's class.
    prefect_class: ClassVar[tuple[str, str]]

    def __init__(
        self, fn: Callable[..., Any], options: dict[str, Any], base: Self | None = None
    ) -> None:
        if inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn):
            raise TypeError(
                f"{fn.__qualname__} is async: operations are plain functions, run in threads"
            )
        own = {"fn": fn, "_options": options, "_base": base, "_real": None}
        for name, value in {**own, "_lock": threading.RLock()}.items():
            object.__setattr__(self, name, value)
        functools.update_wrapper(cast("Callable[..., Any]", self), fn)

    def _build(self) -> Any:
        """Create Prefect's object."""
        raise NotImplementedError

    @property
    def real(self) -> Any:
        """Prefect's own object, created at the first access, which imports Prefect."""
        if self._real is None:
            with self._lock:
                if self._real is None:
                    object.__setattr__(self, "_real", self._build())
        return self._real

    @property
    def name(self) -> str:
        """The name of the task or flow in Prefect."""
        if self._loaded_class() is not None:
            return str(self.real.name)
        own = self._options.get("name") or (self._base.name if self._base else None)
        return own or self._default_name()

    def _default_name(self) -> str:
        return str(self.fn.__name__)

    @classmethod
    def _loaded_class(cls) -> Any:
        """Return Prefect's class, or None as long as its module is not imported."""
        module, name = cls.prefect_class
        return getattr(sys.modules.get(module), name, None)

    if not TYPE_CHECKING:
        # Prefect finds tasks and flows by isinstance (flows.py: load_flow_from_entrypoint,
        # task_worker.py: TaskWorker), which falls back on __class__.
        @property
        def __class__(self) -> type:
            return self._loaded_class() or type(self)

    def __getattr__(self, attribute: str) -> Any:
        if attribute == "real":  # the property raised an AttributeError
            raise AttributeError(f"Prefect's object for {self.__qualname__} could not be made")
        # Private names are looked up by Prefect's own code, but also by IPython and the like, which
        # must not import Prefect.
        if attribute.startswith("__") or (
            attribute.startswith("_") and self._loaded_class() is None
        ):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {attribute!r}")
        return getattr(self.real, attribute)

    def __setattr__(self, attribute: str, value: Any) -> None:
        # Prefect sets _storage and _entrypoint on flows, and persist_result on tasks: these belong
        # to its own object.
        if attribute.startswith("__"):
            object.__setattr__(self, attribute, value)
        else:
            setattr(self.real, attribute, value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} of {self.__module__}.{self.__qualname__}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._importable():
            return (_find, (self.__module__, self.__qualname__))
        if self._base is not None:
            return (_derive, (self._base, self._options))
        return (type(self), (self.fn, self._options))

    def _importable(self) -> bool:
        """Return whether another process can import this object by its module and name."""
        module = sys.modules.get(self.__module__)
        if module is None or self.__module__ == "__main__":
            return False
        # A script that Prefect loads by its path is in sys.modules under a name that no other
        # process can import; it has a __path__ without being a package (prefect 3.9.1,
        # utilities/importtools.py: load_script_as_module).
        file = getattr(module, "__file__", None)
        if file and hasattr(module, "__path__") and Path(file).name != "__init__.py":
            return False
        found: Any = module
        for part in self.__qualname__.split("."):
            found = getattr(found, part, None)
        return found is self


def _derive(base: Tracked, options: dict[str, Any]) -> Tracked:
    """Return an object made by ``with_options`` from `base`, when it is unpickled."""
    return type(base)(base.fn, options, base)


def _find(module: str, qualname: str) -> Any:
    """Return the object of a module and name, when it is unpickled."""
    found: Any = __import__(module, fromlist=["_"])
    for part in qualname.split("."):
        found = getattr(found, part)
    return found
