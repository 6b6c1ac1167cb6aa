"""Faults in what hosts meet: transforms of torch.distributions, and the tests that notice them."""

from table import rows

TORCH = "hosts/test_torch_distributions.py -k 'linear or multiscale or affine or cache or context or shape or zuko'"

# fmt: off
ROWS = [
    *rows("transforms/torch_transform.py", TORCH,
        ("log-det of the inverse cached with its own sign",
         "self._cached_logabsdet = -logabsdet if", "self._cached_logabsdet = logabsdet if"),
        ("another input takes the cached log-det",
         "if self._cached_logabsdet is not None and x is self._cached_x_y[0] and y is self._cached_x_y[1]:",
         "if self._cached_logabsdet is not None:"),
        ("nothing is cached", "self._cached_logabsdet = -logabsdet if self._cache_size else None",
         "self._cached_logabsdet = None"),
        ("contexts of other rows", "_rows(context.expand(*batch, *context.shape[own:]), len(batch))",
         "_rows(context.expand(*batch, *context.shape[own:]), len(batch)).flip(0)"),
        ("events of inputs and outputs swapped",
         "return self._shape_after(self.layer, shape, self.domain.event_dim)",
         "return self._shape_after(self.layer, shape, self.codomain.event_dim)"),
        ("outputs for inputs", "self.layer.inverse, shape,", "self.layer, shape,"),
        ("zeros start the layer", "with torch.no_grad(), _evaluating(self.layer):", "with torch.no_grad():"),
        ("modes are lost", "    for part in training:\n            part.training = True", "    pass"),
        ("cached graphs are copied", ', "_cached_x_y": (None, None), "_cached_logabsdet": None}', "}"),
    ),
]
# fmt: on
