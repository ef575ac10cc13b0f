import pytest

from training.architectures import Recipe
from training.fitting.schedule import rate_factor


@pytest.mark.parametrize(
    ("recipe", "rates"),
    [
        (Recipe("adamw", "cosine", 0.2), {0: 0, 0.1: 0.5, 0.2: 1, 0.6: 0.5, 1: 0}),
        (Recipe("muon", "linear", 0.2), {0: 0, 0.1: 0.5, 0.2: 1, 0.4: 0.75, 1: 0}),
        (Recipe("muon", "linear"), {0: 1, 0.5: 0.5, 1: 0}),
    ],
)
def test_the_rate_rises_in_a_line_and_falls_as_the_recipe_says(
    recipe: Recipe, rates: dict[float, float]
) -> None:
    assert {share: rate_factor(recipe, share) for share in rates} == pytest.approx(rates, abs=1e-9)
