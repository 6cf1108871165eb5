"""Errors of Prefect's client as ours: what a server that is away, refuses or is none comes to."""

from __future__ import annotations

import http.server
import socket
import threading
from contextlib import contextmanager

import pytest

from ctaflows.errors import (
    AlreadyExists,
    CtaflowsError,
    NetworkError,
    NotFound,
    ProtocolSurprise,
    Refused,
    UsageError,
    register_secret,
)
from ctaflows.prefect_client import check_server, prefect_error, prefect_errors
from ctaflows.tracking.flow import NotRecorded, _Outcome, flow
from ctaflows.tracking.task import task


@contextmanager
def answering(status, body=b""):
    """A server on loopback that gives one answer to all; yields its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/api"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def prefect_at(url):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: url}):
        yield


def check():
    check_server("The run can't be tracked", "Or run with --no-track.")


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, b"", Refused),
        (403, b"", Refused),
        (404, b"", ProtocolSurprise),
        (200, b"<html>a page</html>", ProtocolSurprise),
        (200, b'"2.0.0"', UsageError),
        (500, b"", NetworkError),
        (502, b"", NetworkError),
    ],
)
def test_a_server_that_would_not_take_a_run_is_said_before_it_begins(status, body, kind):
    with answering(status, body) as url, prefect_at(url), pytest.raises(CtaflowsError) as caught:
        check()
    assert type(caught.value) is kind
    assert str(caught.value).startswith("The run can't be tracked: ")
    if kind is not UsageError:
        assert caught.value.where == url
        assert "--no-track" in caught.value.hint


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/api", "http://nohost.invalid:4200/api"])
def test_a_server_that_is_away_is_a_fault_of_the_network(url):
    with prefect_at(url), pytest.raises(NetworkError, match="no Prefect server answers") as caught:
        check()
    assert caught.value.where == url
    assert "ConnectError: " in caught.value.said


def test_a_silent_server_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("ctaflows.prefect_client.ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        with prefect_at(url), pytest.raises(NetworkError, match="no Prefect server answers"):
            check()


@pytest.mark.parametrize("url", ["ftp://host/api", "host:4200/api"])
def test_an_address_that_is_none_is_a_mistake(url):
    with prefect_at(url), pytest.raises(CtaflowsError) as caught:
        check()
    assert type(caught.value) is UsageError
    assert "PREFECT_API_URL" in caught.value.hint


def test_errors_of_prefect_s_own_kinds():
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, ParameterTypeError

    for theirs, kind in (
        (ObjectNotFound(Exception("x")), NotFound),
        (ObjectAlreadyExists(Exception("x")), AlreadyExists),
        (ParameterTypeError("n is no number"), UsageError),
    ):
        error = prefect_error(theirs, "A block can't be read", where="block x")
        assert type(error) is kind
        assert str(error).startswith("A block can't be read: ")


def test_a_fault_of_ours_stays_one():
    for ours in (KeyError("x"), RuntimeError("x"), AttributeError("x")):
        assert prefect_error(ours, "It can't be done") is None
        with pytest.raises(type(ours)), prefect_errors("It can't be done"):
            raise ours
    with pytest.raises(NotFound, match="gone"), prefect_errors("It can't be done"):
        raise NotFound("gone")


def test_what_was_sent_is_not_repeated():
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError

    register_secret("a-refresh-token-of-ours")
    request = httpx.Request("PATCH", "http://prefect:4200/api/block_documents/1")
    response = httpx.Response(422, request=request, json={"input": "a-refresh-token-of-ours"})
    theirs = PrefectHTTPStatusError.from_httpx_error(
        httpx.HTTPStatusError("no", request=request, response=response)
    )
    error = prefect_error(theirs, "The login can't be kept")
    assert isinstance(error, ProtocolSurprise)
    assert error.said == "PrefectHTTPStatusError 422"


# a run's end


def away():
    import httpx

    return httpx.ConnectError("All connection attempts failed")


def test_a_run_whose_end_could_not_be_told_gives_its_result():
    outcome = _Outcome()
    assert outcome.of(lambda: "14 files")() == "14 files"
    error = outcome.error(away())
    assert isinstance(error, NotRecorded)
    assert (error.result, error.exit_code, error.retryable) == ("14 files", 9, False)
    assert "Its work is done" in error.hint


def test_a_failure_of_the_run_counts_more_than_that_nobody_was_told(caplog):
    outcome, failure = _Outcome(), NotFound("There is no night")

    def fail():
        raise failure

    with pytest.raises(NotFound):
        outcome.of(fail)()
    assert outcome.error(away()) is failure
    assert "Prefect could not be told how the run ended" in caplog.text
    assert outcome.error(failure) is failure


def test_a_server_that_is_away_in_a_task_is_no_fault_of_ours():
    outcome, theirs = _Outcome(), away()

    def fail():
        raise theirs

    with pytest.raises(type(theirs)):
        outcome.of(fail)()
    assert type(outcome.error(theirs)) is NetworkError
    assert type(_Outcome().error(theirs)) is NetworkError


def test_a_run_is_not_begun_without_a_server():
    begun = []

    @flow
    def night() -> None:
        begun.append(1)

    with (
        prefect_at("http://127.0.0.1:9/api"),
        pytest.raises(NetworkError, match="can't be tracked"),
    ):
        night.tracked()
    assert not begun


def test_a_flow_and_a_task_that_are_always_tracked_are_not_begun_without_a_server(monkeypatch):
    monkeypatch.setenv("CTAFLOWS_TRACK", "always")
    begun = []

    def night() -> None:
        begun.append(1)

    with prefect_at("http://127.0.0.1:9/api"):
        for operation in (flow(night), task(night)):
            with pytest.raises(NetworkError, match="can't be tracked"):
                operation()
    assert not begun


def test_a_task_s_own_error_is_none_of_prefect_s_server(monkeypatch):
    monkeypatch.setenv("CTAFLOWS_TRACK", "always")
    monkeypatch.setattr("ctaflows.tracking.task.check_server", lambda *_: None)
    theirs, ours = away(), away()

    @task
    def fetch() -> None:
        raise ours

    monkeypatch.setattr(type(fetch), "real", property(lambda one: one.fn))
    with pytest.raises(type(ours)) as caught:
        fetch()
    assert caught.value is ours

    def refuse() -> None:
        raise theirs

    monkeypatch.setattr(type(fetch), "real", property(lambda _: refuse))
    with pytest.raises(NetworkError, match="can't be tracked"):
        fetch()
