"""The tables of faults, one for each room of the package."""

from rooms import assembly, data, evaluation, hosts, linalg, train, transforms

MUTATIONS = [*linalg.ROWS, *transforms.ROWS, *data.ROWS, *assembly.ROWS, *evaluation.ROWS, *hosts.ROWS, *train.ROWS]
