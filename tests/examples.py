"""The numbers of random examples and interruptions, from the environment.

Hypothesis tries as many examples as a test says, times `TIMES`.
"""

from __future__ import annotations

import os
from typing import Any

import hypothesis

#: .ci/run sets 1, and `make soak` more.
TIMES = float(os.environ.get("CTAFLOWS_TEST_EXAMPLES", "0.2"))
#: How often a night is interrupted; .ci/run and `make soak` set more.
INTERRUPTIONS = int(os.environ.get("CTAFLOWS_TEST_INTERRUPTIONS", "10"))


def settings(*, max_examples: int = 100, **more: Any) -> hypothesis.settings:
    """Return Hypothesis's settings, with the number of examples multiplied.

    No time is judged: a busy machine is no fault of the code.
    """
    known = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
    n_examples = max(1, round(max_examples * TIMES))
    return hypothesis.settings(max_examples=n_examples, **{**known, **more})


def apply() -> None:
    """Apply these settings to tests without settings of their own, too."""
    hypothesis.settings.register_profile("ctaflows", settings())
    hypothesis.settings.load_profile("ctaflows")
