"""The errors that a person can act on: each message is one or two lines and ends with the way out."""


class JaxAudioError(Exception):
    """Base of every error that jaxaudio raises on purpose; the command line prints it without a traceback.

    `exit_code` is what the `jaxaudio` command returns for it.
    """

    exit_code = 1


class UsageError(JaxAudioError, ValueError):
    """The caller asked for something that cannot be: a bad option, a bad shape, an unreadable file."""

    exit_code = 2


class AudioError(UsageError):
    """Audio that cannot be used: empty, not finite, unreadable, wrongly shaped."""


class ConfigError(UsageError):
    """A configuration or an override that does not fit the experiment."""


class MissingError(JaxAudioError):
    """Weights, data or an optional package that is not there."""

    exit_code = 3


class CheckpointError(JaxAudioError):
    """A checkpoint that is truncated, altered, or of another system."""

    exit_code = 3
