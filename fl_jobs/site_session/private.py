"""Differential privacy at one site in one run: what is charged, noised and kept back, and in which order."""

import re
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fl_jobs.algorithms.build import build_algorithm
from fl_jobs.data import DataPart
from fl_jobs.data.register import read_registration
from fl_jobs.errors import DataError, SharedStateError, SpecError
from fl_jobs.messages import TaskOrder, TensorMap
from fl_jobs.packaging.spec import Arm, PrivacySpec, RunSpec
from fl_jobs.privacy.ledger import Budget, Ledger
from fl_jobs.privacy.rules import phase_releases, planned_releases, round_releases
from fl_jobs.privacy.rules import steps_per_round as planned_steps
from fl_jobs.privacy.updates import noised_update
from fl_jobs.private_steps import PrivateSteps

if TYPE_CHECKING:
    from fl_jobs.site_session.session import SiteSession

_NO_PATIENT = re.compile(r"row-\d+")  # what a row without a group is called


class SitePrivacy:
    """Charge, then train, then let out: no release is ever on its way that is not on the ledger.

    Under privacy a site counts as one in every sum and sends no measurement: how many patients it has, and
    how well a model does on them, are facts about patients without noise.
    """

    def __init__(self, session: "SiteSession", privacy: PrivacySpec, budget: Budget | None) -> None:
        self._spec, self._privacy = session.spec, privacy
        dataset = session.spec.study.dataset
        card = read_registration(session.site_home / "registered", dataset).card
        self.ledger = Ledger(
            session.site_home,
            dataset=dataset,
            sha256=card.digest,
            run=session.run_id,
            digest=session.spec.digest(),
            budget=budget,
        )
        self._initial: TensorMap = {
            f"{arm}/{name}": value.numpy().astype(np.float32)
            for arm in session.spec.arms()
            for name, (value, _lane) in build_algorithm(session.spec, arm, session.weights).sums().items()
        }

    @property
    def per_patient(self) -> bool:
        return self._privacy.unit == "record"

    def charge(self, order: TaskOrder) -> None:
        """Pay for an answer to ``order`` before anything is trained for it.

        Each order is paid for each time it is carried out: its noise is new each time, and the first answer
        may have left before a crash. Raises PrivacyBudgetError; nothing is trained then.
        """
        self.ledger.check(self._privacy, planned_releases(self._spec))
        self.ledger.charge(
            self._privacy, phase_releases(self._spec) if order.name == "phase" else round_releases(self._spec)
        )

    def steps(self, arm: Arm) -> PrivateSteps | None:
        """How ``arm`` is trained for a release; None: as without privacy."""
        if self._privacy.unit == "site" or arm == "local":
            return None
        privacy = self._privacy
        steps = planned_steps(self._spec)
        return PrivateSteps(privacy.noise_multiplier, privacy.clip_norm, privacy.sample_rate, steps)

    def outgoing(self, order: TaskOrder, tensors: TensorMap) -> TensorMap:
        """What leaves instead of ``tensors``: with unit "site" the clipped, noised change of all of them."""
        if self._privacy.unit == "record":
            return tensors
        base: TensorMap = {}
        for wire, value in tensors.items():
            found = order.tensors.get(wire, self._initial.get(wire))
            base[wire] = np.zeros_like(value) if found is None else found
        if any(not np.isfinite(value).all() for value in tensors.values()):
            raise SharedStateError("The update holds numbers that are not finite. Lower the learning rate.")
        return noised_update(self._spec, tensors, base)


def check_budget_is_kept(spec: RunSpec, budget: Budget | None) -> None:
    """A run without privacy would have no finite ε: a site with a budget takes no part. Raises SpecError."""
    if budget is not None and spec.policy.privacy is None and spec.arms() != ("local",):
        raise SpecError(
            "This site has set a privacy budget for its patients, and this run has no differential privacy. "
            "Start it with differential privacy, or ask the site's operator to lift the budget."
        )


def patients_of(part: DataPart) -> Tensor:
    """A number from 0 for each row's patient. Raises DataError when the data set names no patients."""
    if all(_NO_PATIENT.fullmatch(str(group)) for group in part.groups):
        raise DataError(
            "The data set does not say which rows belong to the same patient; differential privacy for each "
            "patient needs that. Name the group column in the manifest and register the data again."
        )
    return torch.from_numpy(np.unique(part.groups, return_inverse=True)[1].astype(np.int64))
