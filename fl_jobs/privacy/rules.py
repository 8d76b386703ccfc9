"""Where differential privacy holds, what a run is going to spend, and the sentence that says so."""

import math

from fl_jobs.catalog import ALGORITHMS, validate_hyper_parameters
from fl_jobs.errors import SpecError
from fl_jobs.packaging.spec import PrivacySpec, RunSpec
from fl_jobs.privacy.accountant import Releases, epsilon
from secure_agg.thresholds import MOST_SITES, colluding_default, threshold

PIXELS = (0.5, 0.25)  # centre and spread of a colour channel in 0 … 1, for images without a scaling


def units_of(algorithm: str) -> tuple[str, ...]:
    """The units differential privacy can be promised for.

    None for an algorithm that shares nothing, and for one whose server step does more than a mean: a noised
    number of sites can be zero or less, so its result would have no meaning.
    """
    entry = ALGORITHMS[algorithm]
    if entry.fold != ALGORITHMS["fedavg"].fold:
        return ()
    return {"record": ("record", "site"), "site": ("site",), "none": ()}[entry.dp]


def check_privacy(spec: RunSpec) -> None:
    """Refuse a run whose promise would not be true. Raises SpecError saying why."""
    privacy = spec.policy.privacy
    if privacy is None:
        return
    title, units = ALGORITHMS[spec.algorithm].title, units_of(spec.algorithm)
    if not units:
        raise SpecError(
            "%(title)s has no differential privacy to promise. Leave it off, or choose another algorithm.",
            title=title,
        )
    if privacy.unit not in units:
        raise SpecError(
            "Differential privacy for each patient does not hold for %(title)s: what it learns from mixes "
            "patients, or steers what is shared without noise. Protect whole sites, or choose FedAvg.",
            title=title,
        )
    if privacy.unit == "record":
        _check_record(spec, privacy)
    elif not spec.policy.secure_aggregation:
        raise SpecError(
            "Differential privacy for whole sites needs secure aggregation: each site adds only its share "
            "of the noise. Turn secure aggregation on, or protect patients."
        )
    if _settings(spec).get("patience"):
        raise SpecError(
            "An early stop reads the sites' validation, which stays at the sites under differential privacy. "
            "Set the patience to 0."
        )
    if (planned := epsilon(planned_releases(spec), privacy.delta)) > privacy.epsilon_max:
        raise SpecError(
            "This run would spend ε = %(planned)s and may spend %(most)s. Raise the noise, or lower the "
            "rounds or the sampling rate.",
            planned=f"{planned:.2f}",
            most=f"{privacy.epsilon_max:g}",
        )


def _check_record(spec: RunSpec, privacy: PrivacySpec) -> None:
    task = spec.study.task
    if _settings(spec)["class_weights"] != "none":
        raise SpecError(
            "Balanced class weights are counted from the patients, without noise. Set the class "
            "weights to “None”."
        )
    if _settings(spec)["precision"] != "float32":
        raise SpecError(
            "Differential privacy for each patient takes one gradient a patient, where mixed precision gains "
            "nothing and was not examined. Set the precision to “Full (float32)”."
        )
    wanted = {"tabular": len(task.features), "image": task.channels, "text": 0}[task.kind]
    if len(privacy.scaling) != wanted and (task.kind != "image" or privacy.scaling):
        raise SpecError(
            "Differential privacy for each patient needs a public centre and spread for each of the "
            "%(wanted)s inputs; %(given)s are given. A site's own standardisation would steer "
            "what is shared without noise.",
            wanted=wanted,
            given=len(privacy.scaling),
        )


def public_scaling(spec: RunSpec) -> tuple[tuple[float, float], ...] | None:
    """Centre and spread of each input where the site's own may not be used; None where it may."""
    privacy, task = spec.policy.privacy, spec.study.task
    if privacy is None or privacy.unit != "record":
        return None
    return privacy.scaling or (PIXELS,) * (task.channels if task.kind == "image" else 0)


def round_releases(spec: RunSpec) -> Releases:
    """What one answer to a ``train`` order costs. Nothing here depends on a site's data."""
    privacy = _privacy(spec)
    if privacy.unit == "site":
        return Releases(1.0, privacy.noise_multiplier, 1)
    arms = sum(arm != "local" for arm in spec.arms())
    return Releases(privacy.sample_rate, privacy.noise_multiplier, arms * steps_per_round(spec))


def phase_releases(spec: RunSpec) -> Releases:
    """What one answer to a one-off phase costs; algorithms for patients have none."""
    return Releases(1.0, _privacy(spec).noise_multiplier, 1)


def planned_releases(spec: RunSpec) -> list[Releases]:
    """Everything the run lets out of one site when no order has to be repeated, all arms together."""
    each = round_releases(spec)
    phases = {(t.arm, t.phase) for t in spec.tensors if t.phase != "train"}
    rounds = Releases(each.sample_rate, each.noise_multiplier, each.count * spec.rounds)
    return [rounds, *(phase_releases(spec) for _ in phases)]


def steps_per_round(spec: RunSpec) -> int:
    """Noised steps of one arm in one round: as many as see each patient ``local_epochs`` times on average."""
    return max(1, round(int(_settings(spec)["local_epochs"]) / _privacy(spec).sample_rate))


def honest_shares(min_sites: int) -> int:
    """How many shares of noise every sum holds that no colluding site knows: the fewest over all rosters."""
    rosters = [(n, colluding_default(n)) for n in range(min_sites, MOST_SITES + 1)]
    return min(threshold(n, colluding, min_sites) - colluding for n, colluding in rosters)


def site_noise_ratio(spec: RunSpec, sites: int) -> float:
    """Length of the noise in one round's common change ÷ the longest change a site may send (unit "site")."""
    numbers = sum(tensor.size for tensor in spec.shared().values())
    share = 1 / math.sqrt(honest_shares(spec.min_sites))
    return _privacy(spec).noise_multiplier * share * math.sqrt(sites * numbers) / sites


def statement(spec: RunSpec, sites: int) -> str:
    """What the run promises, in words: ε, unit, adjacency, δ; for whole sites also what the noise does."""
    privacy = _privacy(spec)
    spent = epsilon(planned_releases(spec), privacy.delta)
    words = (
        f"ε = {spent:.2f} at δ = {privacy.delta:g} for {privacy.adjacency}, over all {spec.rounds} rounds "
        "and all arms that leave the site together; a repeated order is charged again."
    )
    if privacy.unit == "record":
        return words
    honest = privacy.noise_multiplier * math.sqrt(sites / honest_shares(spec.min_sites))
    best = epsilon([Releases(1.0, honest, each.count) for each in planned_releases(spec)], privacy.delta)
    ratio = site_noise_ratio(spec, sites)
    use = "No useful accuracy is to be expected." if ratio > 1 else ""
    return (
        f"{words} That holds against the server with {colluding_default(sites)} of {sites} sites; against "
        f"the server alone, with every site's noise in the sum, ε = {best:.2f}. With {sites} sites the noise "
        f"in a round's common change is {ratio:.1f} times as long as the longest change a site may send. "
        f"{use}"
    ).rstrip()


def _privacy(spec: RunSpec) -> PrivacySpec:
    if spec.policy.privacy is None:
        raise SpecError("This run has no differential privacy. Submit it again with a privacy setting.")
    return spec.policy.privacy


def _settings(spec: RunSpec) -> dict[str, int | float | str]:
    return validate_hyper_parameters(spec.algorithm, spec.hyper_parameters, spec.study.task.kind)
