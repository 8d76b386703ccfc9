"""What a round costs a site: seconds, bytes, memory and, where the processor says it, energy."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fl_jobs.masking.plans import vector_sizes
from fl_jobs.messages import TensorMap
from fl_jobs.packaging.spec import RunSpec

# Intel's and AMD's running average power limit: microjoules of a whole package, of all its processes; it
# falls back to zero at max_energy_range_uj. Linux 5.10 and later let root alone read it.
RAPL = Path("/sys/class/powercap")


class Footprint:
    """Measures one round. ``figures`` is complete when the block of ``measure`` has ended."""

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

    def sent(self, tensors: TensorMap, spec: RunSpec) -> None:
        """Note the size of the round's update as it leaves: a masked vector, or the tensors themselves."""
        masked = spec.policy.secure_aggregation
        size = max(vector_sizes(spec, "train")) if masked else payload_bytes(tensors)
        self.figures["bytes_up"] = float(size)

    def _energy_j(self) -> float | None:
        """Joules counted by all packages so far; None where they cannot be read."""
        try:
            counters = [path.read_text(encoding="ascii") for path in self._rapl.glob("*-rapl:?/energy_uj")]
            return sum(int(counter) for counter in counters) / 1e6 if counters else None
        except (OSError, ValueError):
            return None


def payload_bytes(tensors: TensorMap) -> int:
    return sum(int(value.nbytes) for value in tensors.values())
