"""How much privacy was spent: from the events of a ledger to ε and δ, and back to the noise."""

from fedcli.privacy.accountant import Budget, affords, budget, delta_at, epsilon_at
from fedcli.privacy.calibration import calibrate
from fedcli.privacy.limits import PrivacyLimit

__all__ = ["Budget", "PrivacyLimit", "affords", "budget", "calibrate", "delta_at", "epsilon_at"]
