"""One site in one run. Every task loads its state from order and disk, so it can be repeated."""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from fl_jobs.algorithms.base import TRAIN, PersonalAlgorithm
from fl_jobs.algorithms.build import describe_tensors, initial_sha256
from fl_jobs.catalog import check_masking
from fl_jobs.data import DataPart, TextEncoder, load_part, text_encoder
from fl_jobs.device import CPU, VARIABLE
from fl_jobs.errors import DataError, DeviceError, SharedStateError, SpecError
from fl_jobs.evaluation import predict_probabilities, validation_sums
from fl_jobs.messages import VALIDATION, Contribution, TaskOrder, TensorMap
from fl_jobs.packaging.spec import Arm, RunSpec
from fl_jobs.privacy.ledger import Budget
from fl_jobs.private_steps import PrivateSteps
from fl_jobs.site_session.arms import ArmModels, personal_part, to_numpy
from fl_jobs.site_session.finish import finish
from fl_jobs.site_session.private import SitePrivacy, check_budget_is_kept, patients_of
from fl_jobs.site_session.store import PersonalStore
from fl_jobs.training import Cases, Trained, train_phase
from fl_jobs.weights import FOLDER as WEIGHTS_FOLDER


class SiteSession:
    """Executes the tasks of one run at ``site``.

    ``share_site_metrics`` is the site's policy: without it the site's own cells stay here and only sums and
    digests leave. ``budget`` is the most its patients may pay in privacy over all runs. Models live on
    ``device``; what leaves or is kept comes off it. Sets torch to one thread: ten times faster for small
    models, same numbers everywhere. Raises SpecError when the specification declares other tensors than its
    algorithms would send.
    """

    def __init__(
        self,
        spec: RunSpec,
        *,
        run_id: str,
        site: str,
        site_home: Path,
        share_site_metrics: bool,
        budget: Budget | None = None,
        device: torch.device = CPU,
    ) -> None:
        torch.set_num_threads(1)
        check_masking(spec.algorithm, secure_aggregation=spec.policy.secure_aggregation)
        if tuple(spec.tensors) != describe_tensors(spec):
            raise SpecError(
                "The run declares other tensors than this version of its algorithm sends. "
                "Install the portal's version at this site, or submit the run again."
            )
        self.spec, self.run_id, self.site, self.site_home = spec, run_id, site, site_home
        self.device = device
        check_budget_is_kept(spec, budget)
        privacy = spec.policy.privacy
        self.share_site_metrics = share_site_metrics and privacy is None
        self.store = self.open_store()
        self.weights = site_home / WEIGHTS_FOLDER
        self._initial_sha256 = initial_sha256(spec, self.weights)
        self.privacy = None if privacy is None else SitePrivacy(self, privacy, budget)

    def keep_to(self, *, share_site_metrics: bool, budget: Budget | None) -> None:
        """Go on under the site's policy as it is now. Raises SpecError when it permits this run no more."""
        check_budget_is_kept(self.spec, budget)
        self.share_site_metrics = share_site_metrics and self.privacy is None
        if self.privacy is not None:
            self.privacy.ledger.budget = budget

    def execute(self, order: TaskOrder) -> Contribution:
        """Do one task. Raises DataError, SharedStateError, ModelFileError or FLJobError with a sentence."""
        try:
            return self._carry_out(order)
        except torch.OutOfMemoryError as error:  # a GPU's; without memory for the CPU the process ends
            raise DeviceError(
                "The GPU has too little free memory for this run. End what else uses it, or set "
                f"{VARIABLE}=cpu and start the site again."
            ) from error

    def _carry_out(self, order: TaskOrder) -> Contribution:
        if self.privacy is not None and order.name in ("phase", TRAIN):
            self.privacy.charge(order)
        if order.name == "phase":
            return self._phase(order)
        if order.name == TRAIN:
            return self._train(order)
        if order.name == "validate":
            return self._contribution({}, *self._validate(order, order.round_number))
        if order.name == "finish":
            report, sums = finish(self, order)
            return self._contribution({}, sums, {"finish": report}, always=True)
        raise SharedStateError(
            f"This version does not know the task “{order.name}”. Install the portal's version."
        )

    def open_store(self) -> PersonalStore:
        """Where the personal parts lie."""
        return PersonalStore(self.site_home, self.spec, self.run_id)

    @cached_property
    def training_cases(self) -> Cases:
        return self.cases_of(self.part(TRAIN))

    @cached_property
    def validation(self) -> DataPart:
        return self.part("validation")

    @cached_property
    def models(self) -> ArmModels:
        return ArmModels(self.spec, self.store, self.training_cases.x, self.weights, self.device)

    @cached_property
    def encode_texts(self) -> TextEncoder:
        return text_encoder(self.spec, self.weights)

    def part(self, name: str) -> DataPart:
        """One part of the site's registered data. The test part is asked for by ``finish`` only."""
        folder = self.site_home / "data" / self.spec.study.dataset
        registered, task = self.site_home / "registered", self.spec.study.task
        part = load_part(folder, registered, name, task, self.encode_texts)
        if not len(part.y):
            raise DataError(f"The data set has no {name} cases. Register it again with more cases.")
        return part

    def cases_of(self, part: DataPart) -> Cases:
        per_patient = self.privacy is not None and self.privacy.per_patient
        x, y = torch.from_numpy(part.x), torch.from_numpy(part.y)
        return Cases(x, y, patients_of(part) if per_patient else None)

    def train(
        self, algorithm: PersonalAlgorithm, phase: str, number: int, private: PrivateSteps | None = None
    ) -> Trained:
        """One round of local training; all arms see the same batches in round ``number``.

        With ``private`` it is trained to leave the site; without, what comes out stays here.
        """
        words = (self.site, phase, number)
        progress = max(number - 1, 0) / self.spec.rounds
        return train_phase(
            algorithm,
            phase,
            self.training_cases,
            seed=self.spec.seed,
            words=words,
            progress=progress,
            private=private,
        )

    def measure_validation(self, algorithm: PersonalAlgorithm) -> dict[str, float]:
        probabilities = predict_probabilities(algorithm, torch.from_numpy(self.validation.x))
        return validation_sums(probabilities, self.validation.y)

    def _phase(self, order: TaskOrder) -> Contribution:
        """A one-off phase; the model trained in it is thrown away."""
        arm, phase = order.header["arm"], order.header["phase"]
        if arm not in self.spec.arms() or not self.spec.shared(phase):
            raise SharedStateError(f"This run has no phase “{phase}”. Submit the run again.")
        algorithm = self.models.load(arm, {}, 0).algorithm
        self.train(algorithm, phase, 0)
        return self._contribution(self._noised(order, self._outgoing(arm, phase, algorithm)), {}, None)

    def _train(self, order: TaskOrder) -> Contribution:
        number = order.round_number
        sums, cells = self._validate(order, number - 1) if number > 1 else ({}, {})
        tensors: TensorMap = {}
        trained: dict[str, dict[str, float]] = {}
        for arm in self.spec.arms():
            result, outgoing = self._train_arm(arm, order)
            tensors |= outgoing
            trained[arm] = {"train_loss": result.loss_sum / max(result.cases, 1)}
            own = {"train_loss": result.loss_sum, "train_n": float(result.cases)}
            sums[arm] = sums.get(arm, {}) | own
        return self._contribution(self._noised(order, tensors), sums, cells | {"trained": trained})

    def _train_arm(self, arm: Arm, order: TaskOrder) -> tuple[Trained, TensorMap]:
        """One round of one arm: what it did and what leaves. The personal part is on disk afterwards."""
        number = order.round_number
        algorithm = self.models.load(arm, order.tensors, number - 1).algorithm
        private = None if self.privacy is None else self.privacy.steps(arm)
        result = self.train(algorithm, TRAIN, number, private)
        self.store.write(arm, number, personal_part(algorithm))
        best = int(order.header.get("best", {}).get(arm, number))
        self.store.prune(arm, {number, number - 1, best})
        return result, self._outgoing(arm, TRAIN, algorithm)

    def _validate(self, order: TaskOrder, number: int) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
        """Measure each arm's state after round ``number`` on validation; an arm never trained is left out."""
        sums: dict[str, dict[str, float]] = {}
        for arm in self.spec.arms():
            loaded = self.models.load(arm, order.tensors, number)
            if loaded.own_round is not None or self._is_shared(arm):
                sums[arm] = self.measure_validation(loaded.algorithm)
        cells = {
            arm: {name: s[key] / s["val_n"] for name, key in VALIDATION.items()} for arm, s in sums.items()
        }
        return sums, {"validated": cells}

    def _is_shared(self, arm: Arm) -> bool:
        return any(tensor.arm == arm for tensor in self.spec.tensors)

    def _outgoing(self, arm: Arm, phase: str, algorithm: PersonalAlgorithm) -> TensorMap:
        """Exactly the declared tensors. Raises SharedStateError, never sends another."""
        declared = {t.name: t for t in self.spec.shared(phase).values() if t.arm == arm}
        algorithm.phase = phase
        sums = algorithm.sums()
        shapes = {name: (tuple(value.shape), lane) for name, (value, lane) in sums.items()}
        if shapes != {name: (tensor.shape, tensor.lane) for name, tensor in declared.items()}:
            raise SharedStateError(
                "The algorithm would send tensors that the run does not declare. Nothing was sent."
            )
        values = to_numpy({name: value for name, (value, _lane) in sums.items()})
        return {declared[name].wire_name: value for name, value in values.items()}

    def _noised(self, order: TaskOrder, tensors: TensorMap) -> TensorMap:
        return tensors if self.privacy is None else self.privacy.outgoing(order, tensors)

    def _contribution(
        self,
        tensors: TensorMap,
        sums: dict[str, dict[str, float]],
        cells: dict[str, Any] | None,
        *,
        always: bool = False,
    ) -> Contribution:
        site = cells if always or self.share_site_metrics else None
        withheld = self.privacy is not None  # counts and measurements carry no noise
        metrics = {"sums": {} if withheld else sums, "site": site, "initial_sha256": self._initial_sha256}
        lanes = {"samples": 1.0 if withheld else float(len(self.training_cases.y)), "one": 1.0}
        return Contribution(tensors, lanes, metrics)
