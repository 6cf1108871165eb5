"""What keeping a tree in step is said to have come to."""

from __future__ import annotations

import io
import json
import pickle

import pytest
from rich.console import Console

from ctaflows.errors import PartialFailure
from ctaflows.model import Transfer
from ctaflows.tasks.tree_report import TreeReport

HERE = Transfer("/n/a.h5", "a.h5", 1000, verified=True, skipped=True)
MOVED = Transfer("/n/b.h5", "b.h5", 2000, 2000, verified=True)
UNPROVEN = Transfer("/n/c.h5", "c.h5", 500, 500)
FAILED = Transfer("/n/d\x1b[31m\n.h5", "d.h5", 1, error="Nearline: on tape")
TALLY = TreeReport("Mirror of /n", "/here/n", "/here/n/manifest.jsonl")


def printed(tally, width=100):
    out = io.StringIO()
    Console(file=out, width=width).print(tally)
    return out.getvalue()


@pytest.mark.parametrize(
    ("transfers", "about", "verdict"),
    [
        ([], {}, "0 of 0 files in place, 0 verified, nothing moved"),
        ([HERE], {}, "1 of 1 files in place, 1 verified, nothing moved"),
        ([HERE, MOVED, UNPROVEN], {}, "3 of 3 files in place, 2 verified, 2 moved (2.5 kB)"),
        (
            [HERE],
            {"deleted": ("x", "y")},
            "1 of 1 files in place, 1 verified, nothing moved, 2 deleted",
        ),
        ([MOVED, FAILED], {}, "1 of 2 files in place, 1 verified, 1 moved (2 kB), 1 failed"),
        ([HERE, MOVED], {"dry_run": True}, "dry run: 1 files to move (2 kB), 1 in place"),
        (
            [HERE],
            {"dry_run": True, "deleted": ("x",)},
            "dry run: 0 files to move (0 B), 1 in place, 1 to delete",
        ),
    ],
)
def test_the_verdict(transfers, about, verdict):
    tally = TALLY.having(transfers, **about)
    assert tally.verdict() == verdict
    assert verdict in " ".join(printed(tally).split())
    assert json.loads(json.dumps(tally.to_dict()))["files"] == tally.records()


def test_files_that_did_not_come_make_an_error():
    TALLY.having([HERE, MOVED]).raise_if_failed()
    with pytest.raises(PartialFailure) as why:
        TALLY.having([MOVED, FAILED]).raise_if_failed()
    assert why.value.exit_code == 10
    assert "1 failed" in str(why.value)
    assert "on tape" in str(why.value)
    again = pickle.loads(pickle.dumps(why.value))
    assert again.report == why.value.report


def test_a_name_does_not_steer_the_terminal():
    text = printed(TALLY.having([FAILED], kept=("e\x1b]0;x\n.h5",)))
    assert "\x1b" not in text
    assert text.count("\n") == 4
    assert "1 files stay" in text


def test_many_files_are_not_all_printed():
    many = [Transfer(f"/n/{i}", str(i), 1, 1, verified=True) for i in range(1000)]
    text = printed(TALLY.having(many))
    assert len(text.splitlines()) < 210
    assert "and 800 more" in text
    assert len(TALLY.having(many).rows()) == 1000


def test_the_table_for_people_begins_with_what_failed():
    rows = TALLY.having([HERE, MOVED, FAILED]).rows()
    assert [row["path"] for row in rows] == [FAILED.path, MOVED.path]
