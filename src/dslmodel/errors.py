"""The whole error tree. An error's class tells the caller what to do next; its text names the value, the rule and the fix."""


class DslModelError(Exception):
    """Root of every error this package raises on purpose."""


class ConfigurationError(DslModelError):
    """A setting or an argument is wrong. Raised while building, never inside a tick. Exit code 3."""


class IngestError(DslModelError):
    """One payload can't be used. It is counted and answered; the loop goes on.

    `status` is the HTTP status to answer with (400 undecodable, 413 too large, 415 wrong type).
    """

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class ConditionNotMet(DslModelError):
    """A condition that the caller asked for does not hold (`status --fail-under`). Exit code 5."""


class DaemonUnreachable(DslModelError):
    """A command needs the daemon and can't reach it. Exit code 4."""


class ExecutorError(DslModelError):
    """An action on the outside world failed."""


class TemporaryError(ExecutorError):
    """Try again after `delay` seconds."""

    def __init__(self, message: str, *, delay: float) -> None:
        super().__init__(message)
        self.delay = delay


class PermanentError(ExecutorError):
    """Do not try again."""


class AuditError(DslModelError):
    """Something can't be recorded. The engine falls back to dry run and says so."""
