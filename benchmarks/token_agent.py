"""The fraction of time in which the token file for other tools is expired, with the agent running.

Starts a sandbox whose tokens are valid for some seconds, and the agent; then reads the token file
repeatedly and compares the claim `exp` with the time.

    python benchmarks/token_agent.py [--lifetime 15] [--seconds 300] [--every 0.02]
"""

from __future__ import annotations

import argparse
import os
import time

from ctaflows.auth import agent
from ctaflows.auth.store import Store
from ctaflows.auth.tokens import claims
from ctaflows.sandbox import Sandbox


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lifetime", type=float, default=15.0, help="lifetime of a token, seconds")
    parser.add_argument("--seconds", type=float, default=300.0, help="duration of the measurement")
    parser.add_argument("--every", type=float, default=0.02, help="pause between reads, seconds")
    asked = parser.parse_args()
    n_looks = n_expired = 0
    tokens = set()
    with Sandbox(token_lifetime_s=asked.lifetime) as box:
        os.environ["CTAFLOWS_CONFIG_DIR"] = str(box.config_dir)
        settings = box.settings()
        agent.start(settings)
        bare = Store(settings).bare_file
        ends_at = time.monotonic() + asked.seconds
        while time.monotonic() < ends_at:
            token = bare.read_text().strip()
            n_looks += 1
            n_expired += claims(token)["exp"] <= time.time()
            tokens.add(hash(token))
            time.sleep(asked.every)
        agent.stop(settings)
        n_refreshes = sum(r.server == "issuer" and r.path.endswith("/token") for r in box.requests)
    share = 100 * n_expired / n_looks
    print(f"lifetime {asked.lifetime:g} s, {asked.seconds:g} s, {n_looks} looks")
    print(f"expired {n_expired} ({share:.2f} %), {len(tokens)} tokens, {n_refreshes} refreshes")


if __name__ == "__main__":
    main()
