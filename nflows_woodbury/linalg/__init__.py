"""Pure functions on tensors: the algebra of the layers, without modules."""
