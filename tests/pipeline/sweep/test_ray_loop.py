"""What Ray Tune's loop is given; tests/pipeline/sweep/test_driver.py runs it."""

from __future__ import annotations

from ray import tune
from ray.tune.impl.placeholder import create_resolvers_map, inject_placeholders
from ray.tune.search.variant_generator import generate_variants

from pipeline.params.search_space import Configuration
from pipeline.sweep.trial import CHOSEN, as_text, configuration_of


def test_ray_copies_no_configuration_of_a_grid() -> None:
    """A text stays itself; anything else would be copied N times for each of N configurations."""
    tried = [Configuration("bp", {"rule.learning_rate": each}) for each in (0.1, 1e-5 / 3)]
    texts = [as_text(each) for each in tried]
    space = {CHOSEN: tune.grid_search(texts)}
    given = inject_placeholders(space, create_resolvers_map())
    for (_, config), text, configuration in zip(
        generate_variants(given), texts, tried, strict=True
    ):
        assert config[CHOSEN] is text
        assert configuration_of(config) == configuration
