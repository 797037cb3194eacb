"""Feature-wise conditioning on a query embedding."""

from collections.abc import Mapping

import flax.linen as nn
from jax import Array

Sites = Mapping[str, "int | Sites"]


class BiasTree(nn.Module):
    """One linear map per site, from the condition to a bias for each channel.

    The sites are a nested dict {name: channels or a further dict}; parameters and results have the same nesting, so
    that a layer finds its bias under its own name. This is AudioSep's "FiLM": it shifts and does not scale.

    Attributes:
      sites: nested dict with the number of channels of each site.
    """

    sites: Sites

    @nn.compact
    def __call__(self, condition: Array) -> dict:
        """Maps condition (batch, size) to a nested dict of (batch, channels)."""
        return {
            name: nn.Dense(site, name=name)(condition)
            if isinstance(site, int)
            else BiasTree(site, name=name)(condition)
            for name, site in self.sites.items()
        }
