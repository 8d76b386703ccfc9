"""What a round costs a site: seconds, bytes, memory and, where the processor says it, energy."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fl_jobs.messages import SYSTEM, Contribution, TensorMap

# Intel's and AMD's running average power limit: microjoules of a whole package, of all its processes; it
# falls back to zero at max_energy_range_uj. Linux 5.10 and later let root alone read it.
RAPL = Path("/sys/class/powercap")


class Footprint:
    """Measures one order. ``figures`` is complete when the block of ``measure`` has ended."""

    def __init__(self, received: TensorMap, rapl: Path = RAPL) -> None:
        self._rapl = rapl
        self.figures: dict[str, float] = {"bytes_down": float(payload_bytes(received))}

    @contextmanager
    def measure(self) -> Iterator[None]:
        began, energy_j = time.monotonic(), self._energy_j()
        yield
        self.figures["seconds"] = round(time.monotonic() - began, 3)
        # the largest the process ever was: Linux counts it in KiB and never lowers it
        self.figures["peak_memory_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
        after_j = self._energy_j()
        if energy_j is not None and after_j is not None and after_j >= energy_j:
            self.figures["package_energy_j"] = round(after_j - energy_j, 2)

    def add_to(self, contribution: Contribution, bytes_up: int) -> None:
        """Beside what each arm trained; nothing where the site's policy keeps its figures."""
        trained = (contribution.metrics["site"] or {}).get("trained")
        if trained is not None:
            trained[SYSTEM] = self.figures | {"bytes_up": float(bytes_up)}

    def _energy_j(self) -> float | None:
        """Joules counted by all packages so far; None where they cannot be read."""
        try:
            counters = [path.read_text(encoding="ascii") for path in self._rapl.glob("*-rapl:?/energy_uj")]
            return sum(int(counter) for counter in counters) / 1e6 if counters else None
        except (OSError, ValueError):
            return None


def payload_bytes(tensors: TensorMap) -> int:
    return sum(int(value.nbytes) for value in tensors.values())
