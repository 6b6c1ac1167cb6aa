"""Faults in what hosts meet: transforms of torch.distributions, and the tests that notice them."""

from table import rows

TORCH = "hosts/test_torch_distributions.py -k 'linear or multiscale or affine or cache or context or shape or zuko'"

PARTS = "periodic-4 or butterfly-axes or woodbury-default-4 or state_dicts or twice or train or tensors_of"
FROZEN = f"transforms/test_frozen.py -k 'not exported and ({PARTS})'"

# fmt: off
ROWS = [
    *rows("transforms/frozen.py", FROZEN,
        ("inverse by the matrices of the map", "[(tensors[count:-1], tensors[-1])", "[(tensors[:count], tensors[-1])"),
        ("constants of equal layers are stacked", "return Kind(\n", "return DENSE if count == 1 else Kind(\n",
         "import Factor, Kind,", "import DENSE, Factor, Kind,"),
        ("the model itself is frozen", "_frozen(deepcopy(module), {})", "_frozen(module, {})"),
        ("the copy trains on", "_frozen(deepcopy(module), {}).eval()", "_frozen(deepcopy(module), {})"),
        ("layers that come twice come once each", "_frozen(child, done)", "_frozen(child, {})"),
        ("parameters stay", "            del part._parameters[name]\n", "            continue\n"),
        ("any state dict loads", 'if f"{prefix}logabsdets" not in state_dict:', "if False:"),
        ("tensors are in it twice", "deepcopy(layer, dict.fromkeys(map(id, named)))", "deepcopy(layer)"),
    ),
    *rows("transforms/dense.py", FROZEN,
        ("log-det of one vector", "return [inputs.shape[1:].numel() // group.numel()]", "return [1]"),
    ),
    *rows("transforms/periodic.py", FROZEN,
        ("frozen kernel off its centre", "torch.roll(inputs, (shift, shift), (2, 3))", "inputs"),
        ("frozen inverse shifts forward", "inputs.shape[2:]), (-shift, -shift)", "inputs.shape[2:]), (shift, shift)"),
    ),
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
