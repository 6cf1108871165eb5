"""A script with a flow that reports where its tasks and those of its subflow ran."""

from __future__ import annotations

import json
import os
import sys

from ctaflows.tracking.flow import flow
from ctaflows.tracking.task import task


@task
def where(n: int) -> list[str | int | None]:
    return [os.getpid(), os.environ.get("SLURM_JOB_ID")]


@flow
def inner() -> list[str | int | None]:
    return where.submit(0).result()


@flow
def outer(n: int) -> dict[str, object]:
    found = [future.result() for future in [where.submit(i) for i in range(n)]]
    return {"here": os.getpid(), "there": found, "inner": inner()}


if __name__ == "__main__":
    print(json.dumps(outer.tracked(int(sys.argv[1]))))
