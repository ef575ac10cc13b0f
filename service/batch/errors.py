"""Why a command ends without having done what it was asked for. Each message is one line."""


class BatchError(Exception):
    """Base of what ``service.batch`` raises on purpose."""


class Refused(BatchError):
    """The command cannot be begun as it was given; nothing was changed."""


class Busy(BatchError):
    """Another command writes to the output; nothing was changed."""


class Stopped(BatchError):
    """The command ended in the middle; an output can be gone on with."""
