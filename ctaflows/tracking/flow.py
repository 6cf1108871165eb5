"""Flows that run with Prefect and without it: the `flow` decorator.

::

    @flow(name="fetch-dl1", flow_run_name="fetch-dl1-{date}")
    def fetch_dl1(date: str, dest: Path | None = None) -> Report: ...

    fetch_dl1("20241114")                # outside a run: the function; no Prefect, no server
    fetch_dl1.tracked("20241114")        # a Prefect flow run in this process, its tasks tracked
    fetch_dl1.plain("20241114")          # the function with nothing tracked, even inside a run
    fetch_dl1.serve(...)                 # and deploy, to_deployment, from_source: Prefect's

Called inside a run it is a subflow; ``CTAFLOWS_TRACK`` has the same effect as for tasks.
`with_options` returns a `prefect.Flow`, since options mean nothing without Prefect. A worker runs
``fetch_dl1.fn`` inside a flow run, so that its tasks are tracked. ``CTAFLOWS_RUNNER`` names the
task runner, see `ctaflows.tracking.task_runners`.
"""

from __future__ import annotations

import copy
import functools
import inspect
import logging
import re
from typing import TYPE_CHECKING, Any

from ctaflows.errors import CtaflowsError, NetworkError
from ctaflows.prefect_client import check_server, prefect_error
from ctaflows.tracking import task_runners
from ctaflows.tracking.tracked import Tracked, in_run, is_tracked, tracking

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, Protocol, TypeVar, overload

    import prefect
    from prefect.flows import FlowStateHook
    from prefect.futures import PrefectFuture
    from prefect.results import ResultSerializer, ResultStorage
    from prefect.task_runners import TaskRunner

    P = ParamSpec("P")
    R = TypeVar("R")

log = logging.getLogger("ctaflows.tracking.flow")

_NOT_BEGUN = "The run can't be tracked"
_UNTOLD = "Prefect could not be told how the run ended"
_UNTRACKED = "Start the server, mend PREFECT_API_URL, or run with --no-track."
_SECTION = re.compile(r"^(?P<title>[A-Z][A-Za-z ]*)\n-{3,}[ \t]*$", re.MULTILINE)


def summary(fn: Callable[..., Any]) -> str:
    """Return the text of a numpydoc docstring before its first section."""
    return _SECTION.split(inspect.getdoc(fn) or "", maxsplit=1)[0].strip()


def parameter_descriptions(fn: Callable[..., Any]) -> dict[str, str]:
    """Return the description of each parameter in a numpydoc docstring, each on one line."""
    text = inspect.getdoc(fn) or ""
    sections = list(_SECTION.finditer(text))
    descriptions: dict[str, list[str]] = {}
    ends = [*(section.start() for section in sections[1:]), len(text)]
    for section, end in zip(sections, ends, strict=False):
        if section["title"] != "Parameters":
            continue
        names: list[str] = []
        for line in text[section.end() : end].splitlines():
            if line[:1].strip():
                names = [name.strip(" *") for name in line.partition(":")[0].split(",")]
            for name in names:
                descriptions.setdefault(name, []).append("" if line[:1].strip() else line.strip())
    return {name: " ".join(filter(None, lines)) for name, lines in descriptions.items()}


class NotRecorded(NetworkError):
    """The run's work is done, and Prefect's server could not be told of it.

    Attributes
    ----------
    result : object
        What the flow's function returned.
    """

    retryable = False
    result: Any = None


class _Outcome:
    """What came of a flow's function, whatever Prefect makes of it at the run's end."""

    def __init__(self) -> None:
        self._is_done = False
        self._result: Any = None
        self._failure: BaseException | None = None

    def of(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Make a function of which it is noted here how it ended."""

        @functools.wraps(fn)
        def run(*args: Any, **kwargs: Any) -> Any:
            self._is_done, self._failure = False, None
            try:
                self._result = fn(*args, **kwargs)
            except BaseException as why:
                self._failure = why
                raise
            self._is_done = True
            return self._result

        return run

    def error(self, why: Exception) -> Exception:
        """Return what to raise for an error that ended the run: it may be of Prefect's client."""
        if isinstance(why, CtaflowsError):
            return why
        has_ended = self._is_done or self._failure is not None
        theirs = prefect_error(why, _UNTOLD if has_ended else _NOT_BEGUN, hint=_UNTRACKED)
        if theirs is None:
            return why
        if self._is_done:
            hint = "Its work is done all the same; there is no need to run it again."
            error = NotRecorded(_UNTOLD, where=theirs.where, said=theirs.said, hint=hint)
            error.result = self._result
            return error
        if isinstance(self._failure, Exception) and self._failure is not why:
            log.warning("%s", theirs)
            return self._failure
        return theirs


class DualFlow(Tracked):
    """A plain function that runs as a Prefect flow where it is tracked."""

    prefect_class = ("prefect.flows", "Flow")

    def _default_name(self) -> str:
        return str(self.fn.__name__).replace("_", "-")

    def _build(self) -> Any:
        import prefect

        options = {"description": summary(self.fn), **self._options}
        if runner := task_runners.from_environment():
            options["task_runner"] = task_runners.make(runner)
        real = prefect.flow(self.fn, **options)
        # Prefect reads parameter descriptions from Google docstrings only (prefect 3.9.1,
        # utilities/callables: parameter_docstrings), and a deployment takes them from the flow
        # object (cli/deploy/_core.py, deployments/runner.py).
        described = parameter_descriptions(self.fn)
        if described:
            lines = [f"    {name}: {text}" for name, text in described.items()]
            self.__doc__ = real.__doc__ = "\n".join([summary(self.fn), "", "Args:", *lines])
        for name, about in real.parameters.properties.items():
            if name in described:
                about["description"] = described[name]
        return real

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function, or the Prefect flow where it is tracked."""
        if not is_tracked():
            return self.fn(*args, **kwargs)
        return self.real(*args, **kwargs) if in_run() else self.tracked(*args, **kwargs)

    def tracked(self, *args: Any, **kwargs: Any) -> Any:
        """Run as a Prefect flow in this process, whatever ``CTAFLOWS_TRACK`` says.

        Raises
        ------
        NetworkError, Refused, UsageError, ProtocolSurprise
            There is no Prefect server that would take the run: nothing was begun.
        NotRecorded
            The work is done, and the server is away since.
        """
        check_server(_NOT_BEGUN, _UNTRACKED)
        outcome = _Outcome()
        with tracking("auto"):
            real = self.real
            flow = copy.copy(real)
            flow.fn = outcome.of(self.fn)
            flow.validate_parameters = real.validate_parameters  # needs the function's globals
            flow.serialize_parameters = _serialized_by(flow)
            try:
                return flow(*args, **kwargs)
            except Exception as why:
                error = outcome.error(why)
                if error is why:
                    raise
                raise error from None

    def plain(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function with nothing tracked, whatever ``CTAFLOWS_TRACK`` says."""
        with tracking("never"):
            return self.fn(*args, **kwargs)


def _serialized_by(flow: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a ``serialize_parameters`` that imports FastAPI (0.3 s) only where it is needed.

    It is not needed for parameters that JSON can represent as they are.
    """
    general = flow.serialize_parameters

    def serialize(parameters: dict[str, Any]) -> dict[str, Any]:
        if all(map(_is_plain, parameters.values())):
            return dict(parameters)
        return dict(general(parameters))

    return serialize


def _is_plain(value: Any) -> bool:
    if type(value) is list:
        return all(map(_is_plain, value))
    return value is None or type(value) in (str, int, bool)


if TYPE_CHECKING:

    class TypedFlow(prefect.Flow[P, R]):
        """The type of a decorated function, for type checkers only."""

        def tracked(self, *args: P.args, **kwargs: P.kwargs) -> R:
            """Run as `DualFlow.tracked` does."""

        def plain(self, *args: P.args, **kwargs: P.kwargs) -> R:
            """Run as `DualFlow.plain` does."""

    class _Decorator(Protocol):
        def __call__(self, fn: Callable[P, R], /) -> TypedFlow[P, R]: ...

    @overload
    def flow(fn: Callable[P, R], /) -> TypedFlow[P, R]: ...
    @overload
    def flow(
        *,
        name: str | None = None,
        version: str | None = None,
        flow_run_name: Callable[[], str] | str | None = None,
        retries: int | None = None,
        retry_delay_seconds: float | None = None,
        task_runner: TaskRunner[PrefectFuture[Any]] | None = None,
        description: str | None = None,
        timeout_seconds: float | None = None,
        validate_parameters: bool = True,
        persist_result: bool | None = None,
        result_storage: ResultStorage | None = None,
        result_serializer: ResultSerializer | None = None,
        cache_result_in_memory: bool = True,
        log_prints: bool | None = None,
        on_completion: list[FlowStateHook[..., Any]] | None = None,
        on_failure: list[FlowStateHook[..., Any]] | None = None,
        on_cancellation: list[FlowStateHook[..., Any]] | None = None,
        on_crashed: list[FlowStateHook[..., Any]] | None = None,
        on_running: list[FlowStateHook[..., Any]] | None = None,
    ) -> _Decorator: ...
    def flow(fn: Any = None, /, **options: Any) -> Any:
        """Make a flow, as below."""

else:

    def flow(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Make a flow of a plain, typed function.

        Parameters
        ----------
        fn : Callable, optional
            The function, where the decorator is written without parentheses.
        **options : Any
            Options of `prefect.flow`. The description is by default the docstring's text before
            its first section, and the name the function's, with hyphens.

        Returns
        -------
        DualFlow
            The function, which runs as a Prefect flow where it is tracked.
        """
        if fn is None:
            return lambda fn: DualFlow(fn, options)
        return DualFlow(fn, options)
