"""The length of local steps: FedNova's normalised number of steps."""


def normalized_steps(
    steps: int, *, momentum: float = 0.0, lr: float = 0.0, proximal: float = 0.0
) -> float:
    """Return the norm ``‖a‖₁``: the sum of ``steps`` steps if each gradient were 1.

    Without momentum and proximal term it is the number of steps. With momentum m, a gradient also
    affects all later steps, ``v ← m v + 1``; a proximal term μ pulls the model back,
    ``v ← v - ημ x`` where ``x ← x + v`` is the distance so far. Wang et al. 2020 (FedNova), section
    3.1, treat each separately.
    """
    import numpy as np  # here, so that the command line starts without it

    back = lr * proximal
    step = np.array([[1 - back, momentum, 1.0], [-back, momentum, 1.0], [0.0, 0.0, 1.0]])
    # (x, v, 1) after one step; matrix_power squares, so even an absurd number of steps is quick
    return float(np.linalg.matrix_power(step, steps)[0, 2])
