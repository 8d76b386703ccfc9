"""Errors of studies and runs. Each message is a sentence for a person and says what to do next."""

from platform_web.outbox.errors import PortalError


class TrainingError(PortalError):
    """Base of all errors this app raises on purpose."""


class StudyError(TrainingError):
    """A study cannot be opened as described."""


class RunRequestError(TrainingError):
    """A run cannot be started as asked; nothing was changed."""


class RunStateError(TrainingError):
    """A run is not in a state in which this can be done."""


class QuestionError(TrainingError):
    """A question or an answer cannot be taken as it is; nothing was changed."""


class JournalError(TrainingError):
    """The run's journal holds a line that cannot be understood."""
