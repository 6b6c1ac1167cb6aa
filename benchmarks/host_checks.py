"""The hosts' own checks on our layers: nflows' TransformTest and normflows' FlowTest, from checkouts of them.

Run it with: python benchmarks/host_checks.py --nflows NFLOWS --normflows NORMALIZING_FLOWS (needs torchtestcase)
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import torch

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))
from registry import CASES

from nflows_woodbury.normflows import NormflowsAdapter


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nflows", type=Path, required=True, help="checkout of bayesiains/nflows")
    parser.add_argument("--normflows", type=Path, required=True, help="checkout of VincentStimper/normalizing-flows")
    options = parser.parse_args()
    nflows = load(options.nflows / "tests" / "transforms" / "transform_test.py").TransformTest()
    nflows.eps = 1e-4  # what nflows' own linear and coupling tests set, 1e-5 to 1e-3
    normflows = load(options.normflows / "normflows" / "flows" / "flow_test.py").FlowTest()
    failures = 0
    for case in CASES:
        transform, inputs = case.build(torch.float32), case.inputs(torch.float32, batch=10)
        outputs = transform(inputs)[0].detach()
        checks = {"nflows": partial(nflows.assert_forward_inverse_are_consistent, transform, outputs)}
        if outputs.shape == inputs.shape:  # normflows' check asks for outputs of the inputs' shape
            flow = NormflowsAdapter(transform)
            checks["normflows"] = partial(normflows.checkForwardInverse, flow, inputs, atol=1e-4, rtol=1e-4)
        for host, check in checks.items():
            try:
                with torch.no_grad():
                    check()
            except Exception as error:
                failures += 1
                print(f"FAILED {host} {case}: {str(error).splitlines()[0]}")
    print(f"{len(CASES)} cases, {failures} failures")
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
