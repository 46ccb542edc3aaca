"""What can go wrong with snapshots, models and parameters, each with the next step in its message."""

from __future__ import annotations

from keepline.errors import BadDataError


class SnapshotError(BadDataError):
    """A feature snapshot or score file is not what its manifest says, or would change silently."""


class FeatureMismatchError(BadDataError):
    """The features are not those that the model was trained on."""


class LeakError(BadDataError):
    """A column that knows the future was offered as a feature."""


class LabelError(BadDataError):
    """The labels cannot be joined to the features one to one."""


class RiskParameterError(BadDataError):
    """A dated parameter is missing, doubled or out of its range."""


class ModelVerificationError(BadDataError):
    """A stored model is damaged, incomplete or of an unknown kind; it was not used."""
