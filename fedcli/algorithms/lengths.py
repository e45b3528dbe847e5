"""How far local steps go: the normalised number of steps of FedNova."""


def normalized_steps(
    steps: int, *, momentum: float = 0.0, lr: float = 0.0, proximal: float = 0.0
) -> float:
    """Return the norm ``‖a‖₁``: what ``steps`` steps add up to if each gradient were 1.

    Without momentum and proximal term it is the number of steps. With momentum m a gradient also
    moves all later steps, ``v ← m v + 1``; a proximal term μ draws the model back, ``v ← v - ημ x``
    where ``x ← x + v`` is the way so far. Wang et al. 2020 (FedNova), section 3.1, has both, each
    for itself.
    """
    import numpy as np  # which the command line does not wait for

    back = lr * proximal
    step = np.array([[1 - back, momentum, 1.0], [-back, momentum, 1.0], [0.0, 0.0, 1.0]])
    # (x, v, 1) after one step; squaring keeps an absurd number of steps from taking for ever
    return float(np.linalg.matrix_power(step, steps)[0, 2])
