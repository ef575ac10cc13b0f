"""Networks side by side behind a common first stage, that answer together.

After Lee et al., Why M Heads are Better than One (2015), who call them TreeNets. In training each
branch has a loss of its own, and learns as it would alone; together they answer with the mean of
their logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras


def suffixes(branches: int) -> list[str]:
    """What the names of each branch's layers end in."""
    return ["", *(f"_branch{number}" for number in range(2, branches + 1))]


def mean_of(answers: Sequence[keras.KerasTensor]) -> keras.KerasTensor:
    """The mean of what each branch answers."""
    return keras.layers.Average(name="mean")(answers) if len(answers) > 1 else answers[0]


def side_by_side(ends: Sequence[keras.KerasTensor]) -> keras.KerasTensor:
    """All branches' features in one row, for a last layer that is common."""
    return keras.layers.Concatenate(name="ends")(ends) if len(ends) > 1 else ends[0]


def answers_of(model: keras.Model) -> Callable[..., list[keras.KerasTensor]]:
    """The same network, with the logits of each branch: of images, a list of one or more."""
    last = model.layers[-1]
    answers = last.input if isinstance(last, keras.layers.Average) else [model.output]
    apart = keras.Model(model.input, answers)

    def answer(images: keras.KerasTensor, *, training: bool) -> list[keras.KerasTensor]:
        found = apart(images, training=training)
        return found if isinstance(found, list) else [found]  # of one Keras makes no list

    return answer
