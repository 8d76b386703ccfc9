"""Errors of learning. Each message is a sentence for a person and says what to do next."""


class FLJobError(Exception):
    """Base of all errors this package raises on purpose."""


class SpecError(FLJobError):
    """A run specification, hyper-parameter or model argument is not usable.

    ``values`` fill the ``%(name)s`` of ``sentence``; kept apart, they can be said in another language.
    """

    def __init__(self, sentence: str, **values: str | int) -> None:
        super().__init__(sentence % values if values else sentence)
        self.sentence, self.values = sentence, values


class PrivacyBudgetError(SpecError):
    """A site's patients would pay more privacy than run or site allow; nothing was trained."""


class DataError(FLJobError):
    """A site's data folder is not usable; the message names file and row.

    ``values`` fill the ``%(name)s`` of ``sentence`` and ``where`` stands before it; kept apart, the sentence
    can be said in another language.
    """

    def __init__(self, sentence: str, *, where: str = "", **values: str | int) -> None:
        text = sentence % values if values else sentence
        super().__init__(f"{where}: {text}" if where else text)
        self.sentence, self.where, self.values = sentence, where, values


class SharedStateError(FLJobError):
    """Tensors that arrived are not the ones the run specification declares."""


class ModelFileError(FLJobError):
    """A model file on disk is missing, altered or does not fit the model."""


class AggregationError(FLJobError):
    """The sites' updates cannot be summed; the round is not committed."""


class SiteHomeError(FLJobError):
    """A site's job process does not find the site's folder."""


class NotApprovedError(FLJobError):
    """A site has not approved what a job would run, or not any more. The sentence may leave the site."""


class SiteLogError(FLJobError):
    """The site's own log could not be written, so what it would have said did not happen."""


class DeviceError(FLJobError):
    """The device that a site's operator chose is not there, or too small."""


class RunInterruptedError(FLJobError):
    """The NVFlare job ends at a round's boundary; the portal submits the run again from the next round.

    ``code`` says why (an error code of FLSA-1, TOO_FEW or REJOIN), ``missing`` which sites it waits for.
    """

    def __init__(self, sentence: str, *, code: str, missing: list[str]) -> None:
        super().__init__(sentence)
        self.code, self.missing = code, missing


class StaleEpochError(FLJobError):
    """A later submission of the same run writes here now; this one may not any more."""


class AlreadyCommittedError(FLJobError):
    """A round, or what it names, is on disk already and counts once."""
