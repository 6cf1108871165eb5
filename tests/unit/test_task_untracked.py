"""Operations where nothing is tracked: no Prefect, and the same results."""

from __future__ import annotations

import contextvars
import copy
import inspect
import logging
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ctaflows.errors import UsageError
from ctaflows.tracking.flow import flow, parameter_descriptions, summary
from ctaflows.tracking.task import get_logger, task, unmapped
from ctaflows.tracking.tracked import tracking


@task(name="scale-it", retries=3)
def scale(x: int, factor: int = 10) -> int:
    """Multiply a number."""
    return x * factor


@task
def fail(x: int) -> int:
    raise ValueError(f"no {x}")


@task
def collect(*names: str, **counts: int) -> tuple[tuple[str, ...], dict[str, int]]:
    return names, counts


@flow(name="scale-all")
def scale_all(n: int, factor: int = 10) -> list[int]:
    """Scale numbers.

    In a second paragraph: more.

    Parameters
    ----------
    n : int
        How many: from 0 on.
    factor, unused : int, optional
        The factor,
        over two lines.

    Returns
    -------
    list of int
        Not a parameter.
    """
    return scale.map(range(n), factor).result()


WITHOUT_PREFECT = """
import sys
sys.path.insert(0, {here!r})
import ctaflows.tracking.tracked, pickle, inspect, copy
import test_task_untracked as m
assert m.scale(2) == 20 and m.scale_all(2) == [0, 10] and m.scale_all.plain(2) == [0, 10]
assert m.scale.submit(3).result() == 30
assert m.scale.with_options(name="other", retries=1)(4) == 40
assert m.scale.name == "scale-it" and m.fail.name == "fail" and m.scale_all.name == "scale-all"
assert m.scale.with_options(name="other").name == "other"
assert pickle.loads(pickle.dumps(m.scale)) is m.scale and copy.deepcopy(m.scale) is m.scale
assert inspect.signature(m.scale).parameters["factor"].default == 10
assert not isinstance(m.scale, int) and not hasattr(m.scale, "_repr_html_") and repr(m.scale)
m.get_logger("x").info("nothing")
print(*(name for name in sys.modules if name.split(".")[0] in ("prefect", "pydantic")))
"""


def test_untracked_operations_never_import_prefect():
    code = WITHOUT_PREFECT.format(here=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr


def test_the_function_stays_itself():
    assert scale.__name__ == "scale"
    assert scale.__doc__ == "Multiply a number."
    assert scale.__wrapped__ is scale.fn
    assert str(inspect.signature(scale)) == "(x: 'int', factor: 'int' = 10) -> 'int'"
    with pytest.raises(ValueError, match="no 3"):
        fail(3)


@pytest.mark.parametrize("decorate", [task, flow, task(name="x")])
def test_async_functions_are_refused(decorate):
    async def fetch() -> None: ...

    with pytest.raises(TypeError, match="async"):
        decorate(fetch)


def test_a_wrong_mode_is_a_usage_error(monkeypatch):
    monkeypatch.setenv("CTAFLOWS_TRACK", "sometimes")
    for call in (lambda: scale(1), lambda: scale_all(1), lambda: scale.submit(1).result()):
        with pytest.raises(UsageError, match="'sometimes'"):
            call()
    with tracking("never"):
        assert scale(1) == 10
    monkeypatch.setenv("CTAFLOWS_TRACK", "")
    assert scale(1) == 10


def test_submit_runs_in_a_thread_with_the_context_of_the_caller():
    variable = contextvars.ContextVar("variable", default="unset")
    go_on = threading.Event()

    @task
    def where() -> tuple[str, str]:
        assert go_on.wait(60)
        return variable.get(), threading.current_thread().name

    variable.set("set")
    future = where.submit()
    variable.set("later")
    assert not future.state.is_final()
    with pytest.raises(TimeoutError):
        future.result(timeout=0.01)
    go_on.set()
    value, thread = future.result(timeout=60)
    assert value == "set"
    assert thread.startswith("ctaflows")
    assert future.state.is_completed()


def test_a_failed_call_gives_its_error():
    future = fail.submit(1)
    future.wait()
    assert future.state.name == "Failed"
    with pytest.raises(ValueError, match="no 1"):
        future.result()
    assert isinstance(future.result(raise_on_failure=False), ValueError)
    assert fail(1, return_state=True).is_failed()
    with pytest.raises(ValueError, match="no 1"):
        scale(1, wait_for=[future])


def test_futures_are_arguments():
    one = scale.submit(1)
    assert scale(one) == 100
    assert scale.submit(one, factor=scale.submit(2)).result() == 200
    many = scale.map([1, 2])
    assert scale.map(many).result() == [100, 200]
    assert task(sum)(many) == 30
    assert task(sum)([one, one]) == 20


def test_map_follows_the_rules_of_prefect():
    assert scale.map([1, 2, 3], [1, 2, 3]).result() == [1, 4, 9]
    assert scale.map(x=(n for n in (1, 2)), factor=3).result() == [3, 6]
    assert scale.map([1, 2]).result() == [10, 20]
    assert task(len)(x := "abc") == len(x)
    assert collect.map(a=[1, 2], b=unmapped([3])).result() == [
        ((), {"a": 1, "b": [3]}),
        ((), {"a": 2, "b": [3]}),
    ]
    assert [state.result() for state in scale.map([1], return_state=True)] == [10]
    with pytest.raises(UsageError, match="differ in length"):
        scale.map([1, 2], [1, 2, 3])
    with pytest.raises(UsageError, match="no argument of map is iterable"):
        scale.map(1)
    with pytest.raises(TypeError):
        scale.map([1], other=2)


def test_tasks_that_wait_for_tasks_do_not_stand_still():
    @task
    def tree(depth: int) -> int:
        if depth == 0:
            return 1
        return sum(tree.map([depth - 1] * 4).result())

    assert tree.submit(4).result() == 256


def test_what_has_not_begun_can_be_cancelled():
    go_on = threading.Event()
    waits = task(lambda _: go_on.wait(60))
    futures = waits.map(range(200))
    deadline = time.monotonic() + 60
    while not futures[0].state.is_running():
        assert time.monotonic() < deadline
    assert not futures[0].cancel()
    assert futures[-1].cancel()
    assert futures[-1].state.name == "Cancelled"
    go_on.set()
    for future in futures[:-1]:
        future.cancel()


def test_pickle_by_reference_and_by_value():
    import cloudpickle

    assert pickle.loads(pickle.dumps(scale)) is scale
    assert copy.copy(scale_all) is scale_all
    derived = pickle.loads(pickle.dumps(scale.with_options(name="other")))
    assert (derived.name, derived(2)) == ("other", 20)
    base = 5
    local = cloudpickle.loads(cloudpickle.dumps(task(name="local")(lambda x: x + base)))
    assert (local.name, local(1)) == ("local", 6)


def test_the_logger_outside_a_run():
    assert get_logger("transfer") is logging.getLogger("ctaflows.transfer")
    assert get_logger("ctaflows.transfer") is logging.getLogger("ctaflows.transfer")


def test_numpydoc_is_read():
    assert summary(scale_all.fn) == "Scale numbers.\n\nIn a second paragraph: more."
    assert parameter_descriptions(scale_all.fn) == {
        "n": "How many: from 0 on.",
        "factor": "The factor, over two lines.",
        "unused": "The factor, over two lines.",
    }
    assert parameter_descriptions(fail.fn) == {}


TYPED = """
from ctaflows.tracking.flow import flow
from ctaflows.tracking.task import task, unmapped

@task(name="scale", retries=1)
def scale(x: int, factor: float = 1.0) -> float:
    return x * factor

@task
def bare(x: int) -> str:
    return str(x)

@flow(name="all")
def run_all(n: int) -> list[str]:
    scale.map([1, 2], unmapped(2.0))
    return [bare(n)]

reveal_type(scale(1))
reveal_type(bare.submit(1).result())
reveal_type(run_all(1))
reveal_type(run_all.tracked(1))
reveal_type(run_all.plain(n=1))
scale("one")
bare(x="one")
run_all("one")
run_all.tracked("one")
task(nmae="x")
flow(nmae="x")
"""


@pytest.mark.slow
def test_the_type_checker_sees_the_function(tmp_path, request):
    snippet = tmp_path / "snippet.py"
    snippet.write_text(TYPED)
    cache = request.config.cache.mkdir("mypy")  # 20 s without, 2 s with
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", snippet.name]
    done = subprocess.run(
        [*command, "--cache-dir", str(cache)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = TYPED.splitlines()
    said = [line.split(":", 2) for line in done.stdout.splitlines() if ": note:   " not in line]
    revealed = [
        rest.split('"')[1].replace("builtins.", "") for _, _, rest in said if "Revealed" in rest
    ]
    assert revealed == [
        "float",
        "str",
        "list[str]",
        "list[str]",
        "list[str]",
    ], done.stdout + done.stderr
    wrong = {lines[int(number) - 1] for _, number, rest in said if rest.startswith(" error")}
    assert wrong == set(lines[lines.index('scale("one")') :]), done.stdout
