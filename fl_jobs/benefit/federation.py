"""What may be said of all sites together, from the cells that sites share.

'No site harmed' is an intersection–union test (Berger, Technometrics 24, 1982): it holds only if at every
site the one-sided 95 % lower bound of (candidate − local-only) exceeds −margin; each site is tested at the
full 5 %, because a false statement needs a false bound at a site that is truly harmed. 'Helps site s' is said
of many sites, so its p-values go through Holm's step-down correction (Scandinavian Journal of Statistics 6,
1979), which keeps the chance of one or more false statements at its level, whatever the dependence.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fl_jobs.benefit.difference import Difference

Harmless = Literal["holds", "does not hold", "cannot be said"]


@dataclass(frozen=True)
class FederationVerdict:
    """``bounded``: sites where a loss of the margin is excluded; ``unbounded``: tested, but not excluded.

    ``untested`` have too few groups, ``silent`` keep their figures: of both nothing can be said.
    ``adjusted`` are Holm's p-values of a gain at the tested sites. ``worst`` and ``spread`` (largest minus
    smallest difference) are of the sites that share theirs.
    """

    no_site_harmed: Harmless
    bounded: tuple[str, ...]
    unbounded: tuple[str, ...]
    untested: tuple[str, ...]
    silent: tuple[str, ...]
    helped: tuple[str, ...]
    harmed: tuple[str, ...]
    adjusted: dict[str, float]
    worst: str | None
    spread: float | None

    @property
    def unknown(self) -> int:
        """For how many sites it cannot be said whether they are harmed."""
        return len(self.untested) + len(self.silent)

    @property
    def is_helpful(self) -> bool:
        """Some site is helped and no site harmed."""
        return bool(self.helped) and self.no_site_harmed == "holds"


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values: at rank i of m, the running maximum of (m − i + 1) × p, at most 1."""
    adjusted: dict[str, float] = {}
    largest = 0.0
    for rank, site in enumerate(sorted(p_values, key=lambda site: (p_values[site], site))):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[site]))
        adjusted[site] = largest
    return adjusted


def judge_federation(cells: Mapping[str, Difference | None], *, error: float = 0.05) -> FederationVerdict:
    """Judge the candidate arm over sites; None stands for a site that keeps its figures."""
    shared = {site: cell for site, cell in sorted(cells.items()) if cell is not None}
    tested = {site: cell for site, cell in shared.items() if cell.is_tested}
    bounded = tuple(site for site, cell in tested.items() if cell.excludes_harm)
    unbounded = tuple(site for site, cell in tested.items() if not cell.excludes_harm)
    gains = holm({site: cell.p_gain for site, cell in tested.items() if cell.p_gain is not None})
    harms = holm({site: cell.p_harm for site, cell in tested.items() if cell.p_harm is not None})
    values = {site: cell.value for site, cell in shared.items()}
    known = "holds" if cells and len(bounded) == len(cells) else "cannot be said"
    return FederationVerdict(
        no_site_harmed="does not hold" if unbounded else known,  # type: ignore[arg-type]
        bounded=bounded,
        unbounded=unbounded,
        untested=tuple(site for site in shared if site not in tested),
        silent=tuple(site for site, cell in sorted(cells.items()) if cell is None),
        helped=tuple(s for s, p in sorted(gains.items()) if p <= error / 2 and tested[s].low > 0),
        harmed=tuple(s for s, p in sorted(harms.items()) if p <= error / 2 and tested[s].high < 0),
        adjusted=gains,
        worst=min(values, key=lambda site: (values[site], site), default=None),
        spread=max(values.values()) - min(values.values()) if len(values) > 1 else None,
    )
