"""The benchmarks' own logic: medians, turns, ratios, targets, the table, what counts as right."""

import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks.transfers import contestants, data, results, table, timing, workloads
from benchmarks.transfers.job import Job
from benchmarks.transfers.results import Outcome, Results, Row
from benchmarks.transfers.timing import Cost

OURS = Outcome("ctaflows", "ctaflows get", [Cost(2.0, 1.0, 40)])


def outcome(tool: str, wall_s: float, **more) -> Outcome:
    return Outcome(tool, tool, [Cost(wall_s, 1.0, 10)], **more)


def row(*outcomes: Outcome, key: str = "k", **limits) -> Row:
    return Row(key, "a work", "nginx", [OURS, *outcomes], **limits)


def cells(of: Row) -> list[tuple[str, ...]]:
    return [line[1:] for line in table.lines(of)]


def test_the_median_is_taken_of_each_figure():
    costs = [Cost(3, 10, 7), Cost(1, 30, 9), Cost(2, 20, 8)]
    assert timing.middle(costs) == Cost(2, 20, 8)
    assert timing.middle(costs[:2]) == Cost(2, 20, 8)


def test_another_one_begins_each_time():
    orders = [timing.turns("abc", repeat) for repeat in range(4)]
    assert [o[0] for o in orders] == ["a", "b", "c", "a"]
    assert all(sorted(o) == ["a", "b", "c"] for o in orders)


def test_a_ratio_above_one_is_ahead():
    assert results.ratio(outcome("curl", 3.0), OURS) == 1.5
    assert results.ratio(outcome("curl", 3.0, reason="failed: no"), OURS) is None
    assert results.ratio(Outcome("curl", "curl"), OURS) is None


@pytest.mark.parametrize(
    ("wall_s", "reached"), [(2.0, "yes"), (1.999, "**no**"), (3.0, "yes"), (1.0, "**no**")]
)
def test_a_target_is_judged_before_rounding(wall_s, reached):
    line = cells(row(outcome("curl", wall_s, least=1.0)))[-1]
    assert line[-2:] == ("≥ 1", reached)


def test_limits_of_our_own():
    curl = Outcome("curl", "curl", [Cost(1.9, 0.5, 10)])
    found = results.limits(row(curl, most_mb=40, most_cpu=1.25, most_over_s=0.25))
    told = {what: (v.value, v.reached) for what, v in found.items()}
    assert told["our peak, MB"] == (40, True)
    assert told["our CPU ÷ curl's"] == (2.0, False)
    assert told["s more than the fastest"] == (pytest.approx(0.1), True)
    assert results.limits(row(most_mb=39))["our peak, MB"].reached is False


def test_limits_without_curl_are_not_judged():
    found = results.limits(row(outcome("davix", 1.0), most_cpu=1.25))
    assert found["our CPU ÷ curl's"].reached is None


def test_who_fails_stays_in_the_table_with_the_reason():
    broken = outcome("rclone", 3.0, reason="failed: not finished after 300 s", least=8)
    absent = Outcome("davix", "davix-get", reason="absent: davix is not installed", least=1)
    *_, failed, missing = cells(row(broken, absent))
    assert failed == ("rclone", "failed: not finished after 300 s", "", "", "?", "≥ 8", "?")
    assert missing[:2] == ("davix-get", "absent: davix is not installed")
    not_done = Row("k", "a work", "xrootd", note="xrootd-server is not installed")
    assert "xrootd-server is not installed" in table.text([not_done])


def test_the_table_on_the_page():
    found = Results("2024-11-14 12:00", {"curl": "7.88.1"}, {"runs": 3}, [row(outcome("a|b", 1.0))])
    page = table.between_markers(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n", "new\n")
    assert page == f"before\n{table.BEGIN}\nnew\n{table.END}\nafter\n"
    lines = table.markdown(found).splitlines()
    assert lines[0] == "Measured 2024-11-14 12:00 UTC (runs 3) with curl 7.88.1."
    assert {line.replace("\\|", "").count("|") for line in lines[2:]} == {len(table.HEAD) + 1}
    with pytest.raises(ValueError, match="no <!-- measured"):
        table.between_markers("a page without", "new\n")


def test_results_are_kept_whole(tmp_path):
    found = Results("now", {"curl": "8"}, {"runs": 3}, [row(outcome("curl", 1.0, least=1.0))])
    results.save(found, tmp_path / "new" / "results.json")
    assert results.load(tmp_path / "new" / "results.json") == found


def test_old_rows_stay_beside_those_of_the_same_versions():
    order = [("a", "nginx"), ("b", "nginx")]
    before = Results("Monday", {"curl": "7"}, {}, [row(key="a"), row(key="b")])
    fresh = row(outcome("curl", 1.0), key="b")
    merged = results.merged(Results("Tuesday", {"curl": "7"}, {}, [fresh]), before, order)
    assert [r.key for r in merged.rows] == ["a", "b"]
    assert merged.rows[1] is fresh
    assert merged.began == "Monday to Tuesday"
    other = Results("Tuesday", {"curl": "8"}, {}, [fresh])
    with pytest.raises(ValueError, match="another curl"):
        results.merged(other, before, order)
    assert results.merged(other, before, order[1:]) is other
    assert results.merged(other, None, order) is other


def test_works_are_chosen_with_their_server():
    every = workloads.chosen([])
    assert {work.key for work, _ in every} == {work.key for work in workloads.WORKS}
    assert [s for _, s in workloads.chosen(["get-large"])] == ["nginx", "xrootd"]
    assert [(w.key, s) for w, s in workloads.chosen(["put-small:xrootd"])] == [
        ("put-small", "xrootd")
    ]
    for wrong in ("get-larch", "cold-start:xrootd"):
        with pytest.raises(ValueError, match=f"there is no {wrong}"):
            workloads.chosen([wrong])


@pytest.mark.parametrize("work", workloads.WORKS, ids=lambda work: work.key)
def test_each_tool_can_do_what_it_takes_part_in(work, tmp_path):
    names = work.quick.names()
    job = Job(
        "https://localhost:1", tmp_path, tmp_path, "/d", tmp_path / "f", names, tmp_path,
        "root://localhost:2",
    )  # fmt: skip
    for peer in (workloads.Peer("ctaflows", work.at_once), *work.peers):
        made = contestants.command(peer.tool, work.act, job, peer.at_once)
        assert all(isinstance(word, str) for word in made.words), made
        assert "token" not in " ".join(made.words)
    labels = [
        contestants.command(p.tool, work.act, job, p.at_once).label
        for p in (workloads.Peer("ctaflows"), *work.peers)
    ]
    assert len(set(labels)) == len(labels)


SIZES = {2 << 30: "2 GiB", 512 << 20: "512 MiB", 5 * 10**6: "5 MB", 20_000: "20 KB", 99: "99 bytes"}


@pytest.mark.parametrize(("n_bytes", "text"), SIZES.items())
def test_sizes(n_bytes, text):
    assert workloads.size_text(n_bytes) == text


def test_files_are_made_smaller_where_there_is_no_room():
    large = data.Files(1, 2 << 30)
    assert large.within(4 << 30) is large
    assert large.within(700 << 20).size_bytes == 700 << 20
    work = workloads.WORKS[0]
    assert "no room" in workloads.title(work, work.files.within(700 << 20))
    assert "no room" not in workloads.title(work, work.quick)


def test_names_are_all_different():
    names = data.Files(5000, 1, 10).names()
    assert len({name.rpartition("/")[2] for name in names}) == 5000
    assert len({name.partition("/")[0] for name in names}) == 10


@pytest.mark.parametrize("below", ["", "data"])
def test_what_arrived_is_compared(tmp_path, below):
    files = data.Files(4, 3_000_000, 2)
    names, there, here = files.names(), tmp_path / "there", tmp_path / "here"
    data.make(there, files)
    assert "did not arrive" in data.difference(there, here, names)
    data.make(here / below, files)
    assert data.difference(there, here, names) is None
    with (here / below / names[3]).open("r+b") as stream:
        stream.seek(2_500_000)
        was = stream.read(1)
        stream.seek(2_500_000)
        stream.write(bytes([was[0] ^ 1]))
    assert data.difference(there, here, names) == f"{names[3]} differs"
    (here / below / names[2]).unlink()
    assert data.difference(there, here, names) == f"{names[2]} did not arrive"


def test_a_listing_must_have_all_names(tmp_path):
    names = data.Files(3, 1, 1).names()
    printed = tmp_path / "printed"
    printed.write_text("\n".join(f"20 2024-11-14 {name}" for name in names))
    assert data.missing_in(printed, names) is None
    printed.write_text(names[0])
    assert data.missing_in(printed, names) == "2 of 3 names are missing"


def measured(tmp_path, *words, limit_s=120.0, **more):
    env = {"PATH": os.defpath}
    return timing.measure(words, env=env, folder=tmp_path, limit_s=limit_s, **more)


def test_a_process_is_measured(tmp_path):
    code = "import time; a = b'x' * 64_000_000; time.sleep(0.2); print('done')"
    cost, printed = measured(tmp_path, sys.executable, "-c", code)
    assert cost.wall_s >= 0.2
    assert 0 < cost.cpu_s < 60
    assert 64 < cost.peak_mb < 200
    assert printed.read_text() == "done\n"


def test_our_own_memory_is_not_the_childs(tmp_path):
    ballast = b"x" * 200_000_000
    cost, _ = measured(tmp_path, "true")
    assert cost.peak_mb < 60 < len(ballast) / 1e6


def test_failures_say_why(tmp_path):
    with pytest.raises(timing.Failed, match=r"^it broke$"):
        measured(tmp_path, "sh", "-c", "echo it broke >&2; exit 3")
    with pytest.raises(timing.Failed, match="ended with 3"):
        measured(tmp_path, "sh", "-c", "exit 3")
    with pytest.raises(timing.Failed, match="can't be started"):
        measured(tmp_path, str(tmp_path / "nothing"))
    measured(tmp_path, "sh", "-c", "exit 3", exit_codes=(0, 3))


def test_who_takes_too_long_is_killed_with_all_it_started(tmp_path):
    with pytest.raises(timing.Failed, match=r"not finished after 1\.5 s"):
        measured(tmp_path, "sh", "-c", f"sleep 300 & echo $! > {tmp_path}/pid; wait", limit_s=1.5)
    deadline = time.monotonic() + 60
    while "sleep" in command_line(tmp_path / "pid"):
        assert time.monotonic() < deadline, "sleep goes on"
        time.sleep(0.01)


def command_line(pid_file: Path) -> str:
    """Give what the process runs; nothing if it has ended, or was not started in time."""
    try:
        return Path(f"/proc/{int(pid_file.read_text())}/cmdline").read_text()
    except (OSError, ValueError):
        return ""
