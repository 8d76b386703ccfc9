"""What a private run promises, in sentences for its page."""

import math

from django.utils.translation import gettext as _

from fl_jobs.errors import SpecError
from fl_jobs.packaging.spec import PrivacySpec, RunSpec
from fl_jobs.privacy.accountant import Releases, epsilon
from fl_jobs.privacy.rules import honest_shares, planned_releases, site_noise_ratio
from platform_web.training.errors import RunStateError
from platform_web.training.models import Run
from secure_agg.thresholds import colluding_default


def privacy_sentences(run: Run) -> list[str]:
    """ε with unit, adjacency and δ; what is withheld; for whole sites what the noise does. [] without."""
    if run.spec is None or run.privacy is None:
        return []
    try:
        return sentences_of(run.run_spec(), run.sites.count())
    except (RunStateError, SpecError):  # of another version: a promise that cannot be counted is not made
        return [_("This run's privacy cannot be stated: its specification is of another version.")]


def sentences_of(spec: RunSpec, sites: int) -> list[str]:
    """What a run of this specification promises with so many sites. Raises SpecError."""
    privacy = spec.policy.privacy
    if privacy is None:
        return []
    planned = epsilon(planned_releases(spec), privacy.delta)
    numbers = {"epsilon": f"{planned:.2f}", "delta": f"{privacy.delta:g}", "rounds": spec.rounds}
    withheld = _(
        "Numbers of cases, losses and test results carry no noise and stay at the sites; every site counts "
        "the same. An order that is repeated after an interruption is charged again, up to ε = %(most)s."
    ) % {"most": f"{privacy.epsilon_max:g}"}
    if privacy.unit == "record":
        promise = _(
            "ε = %(epsilon)s at δ = %(delta)s for adding or removing one patient of a site's registered "
            "training part, over all %(rounds)d rounds and all arms together."
        )
        return [promise % numbers, withheld]
    promise = _(
        "ε = %(epsilon)s at δ = %(delta)s for adding or removing one site's update, over all %(rounds)d "
        "rounds and all arms together."
    )
    return [promise % numbers, *_site_sentences(spec, privacy, sites), withheld]


def _site_sentences(spec: RunSpec, privacy: PrivacySpec, sites: int) -> list[str]:
    whole = privacy.noise_multiplier * math.sqrt(sites / honest_shares(spec.min_sites))
    alone = epsilon([Releases(1.0, whole, each.count) for each in planned_releases(spec)], privacy.delta)
    ratio = site_noise_ratio(spec, sites)
    words = _(
        "That holds against the server with %(colluding)d of %(sites)d sites; against the server alone "
        "ε = %(alone)s. With %(sites)d sites the noise in a round's common change is %(ratio)s times as long "
        "as the longest change a site may send."
    ) % {
        "colluding": colluding_default(sites),
        "sites": sites,
        "alone": f"{alone:.2f}",
        "ratio": f"{ratio:.1f}",
    }
    return [words, _("No useful accuracy is to be expected.")] if ratio > 1 else [words]
