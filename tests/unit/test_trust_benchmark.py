"""The benchmark of lies: what counts as right, what the tables say, and two tools lied to."""

import dataclasses
import http.client
import json
import ssl

import pytest

from benchmarks.trust import lies, table, trial
from benchmarks.trust.door import EVIL, Door, File, Visit
from benchmarks.trust.peers import PEERS
from benchmarks.trust.verdicts import Found, Outcome, Verdict, compare, judge

SIZE = 20_000
KINDS = {kind.key: kind for kind in trial.KINDS}
PEER = {peer.name: peer for peer in PEERS}


@pytest.mark.parametrize(
    ("exit_code", "found", "verdict"),
    [
        (0, Found.RIGHT, Verdict.RIGHT),
        (0, Found.WRONG, Verdict.ACCEPTED),
        (0, Found.ABSENT, Verdict.ACCEPTED),
        (1, Found.RIGHT, Verdict.DOUBTED),
        (1, Found.WRONG, Verdict.LEFT),
        (-11, Found.ABSENT, Verdict.REFUSED),
        (None, Found.RIGHT, Verdict.ENDLESS),
        (None, Found.WRONG, Verdict.ENDLESS),
    ],
)
def test_the_exit_code_and_the_bytes_decide(exit_code, found, verdict):
    assert judge(exit_code, found) is verdict


def test_who_was_not_lied_to_is_not_judged():
    assert judge(0, Found.WRONG, was_lied_to=False) is Verdict.UNTOLD


@pytest.mark.parametrize(
    ("got", "found", "note"),
    [
        ({"f": b"good"}, Found.RIGHT, ""),
        ({"f": b"else"}, Found.RIGHT, ""),
        ({"f": b"gold"}, Found.WRONG, "other bytes"),
        ({"f": b"go"}, Found.WRONG, "2 B"),
        ({"f": b""}, Found.WRONG, "empty"),
        ({"f": b"<html>no"}, Found.WRONG, "a page"),
        ({".f.part": b"go"}, Found.ABSENT, "nothing"),
        ({"f": b"good", "manifest.jsonl": b"{}"}, Found.RIGHT, ""),
    ],
)
def test_the_bytes_under_the_name_are_compared(got, found, note):
    assert compare(got, {"f": [b"good", b"else"]}) == (found, note)


def test_one_of_several_files_is_named():
    right = {"a": [b"a"], "b": [b"b"]}
    assert compare({"a": b"a"}, right) == (Found.ABSENT, "b missing")
    assert compare({"a": b"a", "b": b"bb"}, right) == (Found.WRONG, "b: 2 B")


def test_a_foreign_file_is_wrong_unless_the_door_has_it_too():
    got = {"a": b"a", EVIL: b"evil"}
    of = {"unwanted": [EVIL]}
    assert compare(got, {"a": [b"a"]}, **of) == (Found.WRONG, f"foreign file {EVIL}")
    assert compare(got, {"a": [b"a"]}, optional={EVIL: b"evil"}, **of)[0] is Found.RIGHT
    assert compare(got, {"a": [b"a"]}, optional={EVIL: b"good"}, **of)[0] is Found.WRONG


def test_no_two_lies_have_the_same_name():
    names = [x.name for x in (*lies.FILE_LIES, *lies.TREE_LIES, *lies.PUT_LIES)]
    assert len(names) == len(set(names))


def test_only_what_can_be_told_is_planned():
    held = trial.planned(trial.KINDS, [SIZE, lies.LARGE_BYTES], PEERS, [])
    told = {(t.kind.key, t.lie.name, t.peer.name, t.size_bytes) for t in held}
    assert len(told) == len(held)
    assert ("file", "range-page", "curl", lies.LARGE_BYTES) in told
    assert ("file", "range-page", "curl", SIZE) not in told
    assert ("small", "flip", "curl", SIZE) in told
    assert not {t.peer.name for t in held if t.kind.key == "tree"} & {"curl", "aria2c"}
    assert "aria2c" not in {t.peer.name for t in held if t.kind.key == "put"}
    assert {t.lie.name for t in trial.planned(trial.KINDS, [SIZE], PEERS, ["cut"])} == {"cut"}


BAD = Outcome(
    "curl", "file", "flip", SIZE, Verdict.ACCEPTED, Found.WRONG, "other bytes", [18, 0], 3,
    has_leaked_token=True, went_clear=True,
)  # fmt: skip
GOOD = Outcome("ctaflows", "file", "flip", SIZE, Verdict.REFUSED, Found.ABSENT, "nothing", [7], 4)


def test_a_cell_says_what_came_of_it():
    assert table.cell(BAD) == "**accepted**: other bytes, in clear, **+token** (18, 0; 3)"
    assert table.cell(GOOD) == "refused (7; 4)"
    late = dataclasses.replace(GOOD, verdict=Verdict.ENDLESS, note="", exit_codes=[None])
    assert table.cell(late) == "endless (…; 4)"
    assert table.cell(dataclasses.replace(BAD, verdict=Verdict.UNTOLD)) == "–"
    assert table.cell(None) == "–"


def test_the_tables_have_a_column_for_each_tool():
    text = table.tables([GOOD, BAD], trial.KINDS)
    assert "| curl | 1 | 0 | 0 | 0 | 0 | 0 | 1 | 1 |" in text
    assert "| ctaflows | 0 | 0 | 0 | 0 | 1 | 0 | 0 | 1 |" in text
    assert "### One file, 20 kB\n\n| lie | ctaflows | curl |\n" in text
    assert "| `flip` one bit is wrong, each time | refused (7; 4) | **accepted**: " in text
    assert json.dumps(dataclasses.asdict(BAD))


def test_no_command_that_is_shown_holds_the_token():
    assert all("TOKEN" in peer.shown() and "c2Vj" not in peer.shown() for peer in PEERS)


def visits(door: Door, lie: lies.Lie, method: str) -> list[int]:
    """Send a request, then one for the second half; return the statuses, 0 for none."""
    visit = door.visits["v"] = Visit("v", lie, {"a.bin": File(b"a" * 100), "sub/b.bin": File(b"b")})
    visit.over.set()  # nothing waits
    context = ssl.create_default_context(cafile=str(door.ca_file))
    seen = []
    for more in ({}, {"Range": "bytes=50-"}):
        port = int(door.url.rpartition(":")[2])
        connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=20)
        try:
            path = "/v/" if method == "PROPFIND" else "/v/a.bin"
            asked = {"Destination": f"{door.url}/v/c.bin", "Depth": "1"} | more
            connection.request(method, path, b"c" * 100 if method == "PUT" else None, asked)
            seen.append(connection.getresponse().status)
        except (OSError, http.client.HTTPException):
            seen.append(0)
        finally:
            connection.close()
    return seen


def test_every_lie_is_told_without_a_fault_of_the_door(tmp_path):
    with Door(tmp_path) as door:
        for lie in (*lies.FILE_LIES, *lies.TREE_LIES, *lies.PUT_LIES):
            for method in lie.answers:
                visits(door, lie, method)
                assert door.faults == [], lie.name
        seen = {lie.name: visits(door, lie, "GET") for lie in lies.FILE_LIES}
    assert seen["honest"] == [200, 206]
    assert seen["404-once"] == [404, 206]
    assert seen["202"] == [202, 202]
    assert seen["resume-203"] == [200, 203]
    assert seen["range-416"] == [200, 416]
    assert seen["reset-twice"] == [0, 0]
    assert seen["redirect"] == [302, 302]


def test_a_fault_of_the_door_is_no_lie(tmp_path):
    def fails(_: object) -> None:
        raise LookupError("no answer")

    with Door(tmp_path) as door:
        visits(door, lies.Lie("broken", "has a fault", {"GET": fails}), "GET")
        assert {str(fault) for fault in door.faults} == {"no answer"}
        [planned] = trial.planned([KINDS["file"]], [SIZE], [PEER["ctaflows"]], ["honest"])
        with pytest.raises(RuntimeError, match="the door failed"):
            trial.hold(planned, door, tmp_path, 60)


def test_a_lie_counts_only_when_it_is_told(tmp_path):
    told = {x.name: x for x in (*lies.FILE_LIES, *lies.PUT_LIES)}
    with Door(tmp_path) as door:
        for name, was_told in [("break-once", True), ("range-page", False), ("honest", True)]:
            visits(door, told[name], "GET")
            assert door.visits["v"].was_lied_to is was_told, name
        visits(door, told["put-move-500"], "PUT")
        assert not door.visits["v"].was_lied_to


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What came of some lies, by tool and lie."""
    place = tmp_path_factory.mktemp("trust")
    told = [
        ("file", "honest"), ("file", "flip"), ("file", "redirect"), ("small", "page-once-bare"),
        ("put", "put-nothing"), ("put", "put-move-500"),
    ]  # fmt: skip
    with Door(place) as door:
        found = {}
        for kind, case in told:
            for name in ("ctaflows", "curl"):
                if PEER[name].is_installed():
                    [planned] = trial.planned([KINDS[kind]], [SIZE], [PEER[name]], [case])
                    found[name, case] = trial.hold(planned, door, place, 60)
        assert not door.visits
    assert [file.name for file in place.iterdir()] == ["ca.pem"]
    return found


@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        ("honest", Verdict.RIGHT), ("flip", Verdict.REFUSED), ("redirect", Verdict.RIGHT),
        ("page-once-bare", Verdict.RIGHT), ("put-nothing", Verdict.REFUSED),
        ("put-move-500", Verdict.RIGHT),
    ],
)  # fmt: skip
def test_ctaflows_is_not_deceived(outcomes, case, verdict):
    outcome = outcomes["ctaflows", case]
    assert outcome.verdict is verdict, outcome
    assert not outcome.has_leaked_token


@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        ("honest", Verdict.RIGHT), ("flip", Verdict.ACCEPTED), ("redirect", Verdict.RIGHT),
        ("page-once-bare", Verdict.ACCEPTED), ("put-nothing", Verdict.ACCEPTED),
        ("put-move-500", Verdict.UNTOLD),
    ],
)  # fmt: skip
def test_curl_takes_what_it_is_given(outcomes, case, verdict):
    if ("curl", case) not in outcomes:
        pytest.skip("curl is not installed")
    outcome = outcomes["curl", case]
    assert outcome.verdict is verdict, outcome
    assert not outcome.has_leaked_token
    assert outcome.n_requests == {"redirect": 2, "page-once-bare": 5}.get(case, 1)
