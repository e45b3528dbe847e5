"""The client's side of a round: its data, its training, its update.

``train`` opens the ``session`` that the clients of one command share, and trains each by
``train_one``: its ``data`` and its ``starting_state`` are read, the ``description`` says from which
inputs the update is made, ``existing_update`` whether it exists. ``local_training`` trains, watched
by ``training_progress`` and kept for ``resume``; ``encoding`` or ``masked`` says what is sent, and
``deliver`` writes it. ``tensors`` says which tensors are trained, sent and kept.
"""
