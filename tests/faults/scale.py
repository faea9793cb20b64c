"""The scale of the fault suite: a short form for every change, a long one for published figures."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
FORM = "CHATKEEP_FAULTS"
SEED = "CHATKEEP_FAULTS_SEED"


@dataclass(frozen=True, slots=True)
class Scale:
    """The form of a run and the seed of its schedules. The same seed injects the same faults."""

    is_long: bool
    seed: int

    @classmethod
    def from_env(cls) -> Scale:
        seed = os.environ.get(SEED) or random.SystemRandom().randrange(1_000_000)
        return cls(os.environ.get(FORM) == "long", int(seed))

    def of(self, short: T, long: T) -> T:
        """Return the count of this form."""
        return long if self.is_long else short

    def random(self, *names: object) -> random.Random:
        """Return a random generator for one purpose."""
        return random.Random(f"{self.seed} {names}")  # noqa: S311 - it must repeat itself
