"""What can go wrong in a way that the person at the keyboard can mend.

Each carries a whole sentence that names the option, file or folder; `cli` prints it and exits
non-zero. Anything else is a bug and keeps its traceback.
"""


class TrainingError(Exception):
    """Base of all of them."""


class ConfigError(TrainingError):
    """An option has a value that cannot be used."""


class DataError(TrainingError):
    """The images cannot be trained or measured on."""


class RunError(TrainingError):
    """The run folder does not fit what was asked (nothing to resume, another configuration)."""


class FitError(TrainingError):
    """The optimisation itself failed."""


class WeightsError(TrainingError):
    """Pretrained weights are not what they should be."""


class AdoptionError(TrainingError):
    """A model from elsewhere cannot be served."""


class ExportError(TrainingError):
    """The model file cannot be written, or is not what it should be."""


class FamiliarityError(TrainingError):
    """A model cannot be given familiarity."""


class Stopped(TrainingError):
    """Ctrl-C during the training; the last checkpoint stands."""
