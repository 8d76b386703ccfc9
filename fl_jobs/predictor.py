"""One arm's model at one site, ready to answer. Digests of the files are the caller's to check."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch

from fl_jobs.algorithms.base import PersonalAlgorithm
from fl_jobs.algorithms.build import build_algorithm
from fl_jobs.data import TextEncoder, encode_records, text_encoder
from fl_jobs.errors import ModelFileError
from fl_jobs.messages import TensorMap
from fl_jobs.packaging.spec import RunSpec, TaskSpec
from fl_jobs.tensor_files import read_tensors

ServedArm = Literal["local", "global", "tuned", "personal"]
BATCH = 64


@dataclass(frozen=True)
class Prediction:
    """The most probable label and the probability of each label of the study."""

    label: str
    probabilities: dict[str, float]


class Predictor:
    """Answers for one task; the same case gets the same answer. Not safe for threads."""

    def __init__(self, algorithm: PersonalAlgorithm, task: TaskSpec, encode: TextEncoder) -> None:
        self._algorithm, self.task, self._encode = algorithm.eval(), task, encode

    @classmethod
    def load(
        cls,
        run_spec: RunSpec,
        arm: ServedArm,
        shared_path: Path | None,
        personal_path: Path,
        weights: Path | None = None,
    ) -> Self:
        """Build the model from its two parts; ``shared_path`` is None for local and tuned models.

        ``weights`` is the site's folder of trained weights: what was fixed in training is read there.
        Raises SpecError when it is needed and lacks the file;
        ModelFileError when the parts together are not exactly the model's tensors.
        """
        personal = read_tensors(personal_path)
        shared = read_tensors(shared_path) if shared_path is not None else {}
        algorithm = build_algorithm(run_spec, "global" if arm == "tuned" else arm, weights)
        expected = {name: tuple(value.shape) for name, value in algorithm.state_dict().items()}
        both: TensorMap = shared | personal
        found = {name: tuple(value.shape) for name, value in both.items()}
        if found != expected or shared.keys() & personal.keys():
            raise ModelFileError(
                f"The model files of {personal_path.parent.name} do not fit the model of this run. "
                "Promote the version again."
            )
        algorithm.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in both.items()})
        return cls(algorithm, run_spec.study.task, text_encoder(run_spec, weights))

    def predict(self, records: Sequence[Any]) -> list[Prediction]:
        """Answer each record (features by name, PIL image or text). Raises DataError naming the record."""
        x = torch.from_numpy(encode_records(self.task, records, self._encode))
        with torch.inference_mode():
            rows = torch.cat(
                [torch.softmax(self._algorithm(piece).double(), dim=1) for piece in torch.split(x, BATCH)]
            )
        return [self._prediction(row) for row in rows.tolist()]

    def _prediction(self, row: list[float]) -> Prediction:
        probabilities = dict(zip(self.task.labels, row, strict=True))
        return Prediction(max(probabilities, key=probabilities.__getitem__), probabilities)
