"""Mean and standard deviation of pixels, by name."""

from statistics import fmean

Constants = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std per channel

IMAGENET: Constants = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NORMALIZATIONS: dict[str, Constants] = {"half": ((0.5,), (0.25,)), "imagenet": IMAGENET}


def for_channels(constants: Constants, channels: int) -> Constants:
    """Return the constants for pictures with so many channels; grey ones get the mean over RGB."""
    mean, std = constants
    if channels == 1:
        return (round(fmean(mean), 3),), (round(fmean(std), 3),)
    return mean, std


def normalization_named(mean: tuple[float, ...], std: tuple[float, ...]) -> str | None:
    """Return which of ``NORMALIZATIONS`` a run has; None if the constants are others."""
    found = (
        name
        for name, constants in NORMALIZATIONS.items()
        if for_channels(constants, len(mean)) == (mean, std)
    )
    return next(found, None)
