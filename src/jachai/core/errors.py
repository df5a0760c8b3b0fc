"""The tree of expected errors: what went wrong in the user's words → and what to do.

    JachaiError
    ├── UsageError              the command was given something it cannot use
    ├── Unreadable              a file cannot become a volume
    │   ├── NotAnImage          no image in it, or a format that is not read
    │   │   └── LeftOut         recognised, and no part of a CT or MR scan (index, localizer, report, text, …)
    │   ├── Damaged             truncated or contradicting itself
    │   ├── Unsupported         valid, but of a kind that is not read (yet)
    │   └── LimitExceeded       would need more memory or time than a reader is allowed
    └── ModelError              a model bundle is missing, altered or does not fit

Anything else that is raised is a bug (exit status 70). Messages hold no patient data: no names, no identifiers, no
values of text attributes.
"""


class JachaiError(Exception):
    """An expected failure. `reason` says what is wrong, `remedy` what the user can do; both are whole sentences."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(f"{reason} {remedy}".strip())
        self.reason = reason
        self.remedy = remedy


class UsageError(JachaiError):
    """The command was given something it cannot use."""


class Unreadable(JachaiError):
    """A file cannot become a volume."""


class NotAnImage(Unreadable):
    """No image in it, or a format that Jachai does not read."""


class LeftOut(NotAnImage):
    """Recognised, and no part of a CT or MR scan: what a folder or CD holds besides. The scan is complete without it."""


class Damaged(Unreadable):
    """Truncated, or contradicting itself."""


class Unsupported(Unreadable):
    """Valid, but of a kind that is not read."""


class LimitExceeded(Unreadable):
    """Would need more memory or time than a reader is allowed."""


class ModelError(JachaiError):
    """A model bundle is missing, altered or does not fit this version."""
