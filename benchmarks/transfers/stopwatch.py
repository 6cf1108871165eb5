"""Run one command and print its time and memory, as JSON: `stopwatch.py OUT ERR COMMAND...`.

This is a separate, small process: at exec Linux counts the memory of the forking process towards
the peak of the new one (fs/exec.c, exec_mmap), so that a large parent would hide small children.
"""

import json
import os
import sys
import time


def main() -> None:
    out, err, *command = sys.argv[1:]
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, out, flags, 0o600),
        (os.POSIX_SPAWN_OPEN, 2, err, flags, 0o600),
    ]
    began = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=files)
    _, status, used = os.wait4(pid, 0)
    wall = time.perf_counter() - began
    # includes all children that it waited for; the peak is that of the largest process
    cost = {
        "exit_code": os.waitstatus_to_exitcode(status),
        "wall_s": wall,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss / 1024,
    }
    sys.stdout.write(json.dumps(cost))


if __name__ == "__main__":
    main()
