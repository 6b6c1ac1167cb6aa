"""Faults in evaluation/, and the tests that notice them."""

from table import DIAGNOSIS, EVALUATION, rows

# fmt: off
ROWS = [
    *rows("evaluation/likelihood.py", EVALUATION,
        ("one of the samples", "torch.stack(estimates).mean(0)", "estimates[0]"),
        ("best of the samples", "torch.stack(estimates).mean(0)", "torch.stack(estimates).amin(0)"),
        ("log K missing",
         "(torch.logsumexp(nats * (lowest - draws), 0) - log(count))", "torch.logsumexp(nats * (lowest - draws), 0)"),
        ("log K added", "- log(count)) / nats", "+ log(count)) / nats"),
        ("mean of bits, not of probabilities", "weighted = lowest - (", "weighted = draws.mean(0) - 0 * ("),
        ("weights upside down", "nats * (lowest - draws)", "nats * (draws - lowest)"),
        ("nats of one dimension", "nats = prod(images.shape[1:]) * log(2)", "nats = log(2)"),
        ("contexts of the first batch for all", "context[start : start + batch_size]", "context[:batch_size]"),
        ("noise not from the seed", "torch.manual_seed(seed)\n        flow", "torch.manual_seed(0)\n        flow"),
        ("PNG with its framing", "_PNG_FRAME = 57", "_PNG_FRAME = 0"),
        ("PNG in bytes", "return sum(8 * (", "return sum(("),
        ("PNG per image", "for image in images) / images.numel()", "for image in images) / len(images)"),
    ),
    *rows("evaluation/diagnosis.py", DIAGNOSIS,
        ("best condition of all frequencies", "torch.linalg.cond(wide).max()", "torch.linalg.cond(wide).min()"),
        ("log-det per batch", "/ inputs[0].numel()", "/ inputs.numel()"),
    ),
    *rows("evaluation/samples.py", "evaluation/test_likelihood_and_pictures.py -k 'Nearest or Interpolations'",
        ("distances without the cross term's double", "- 2 * (x @ y.T)", "- (x @ y.T)"),
        ("straight line backwards", "torch.lerp(start, end, weight)", "torch.lerp(end, start, weight)"),
        ("context stays at its start", "torch.lerp(context[0], context[1], weight)", "context[0]"),
    ),
    *rows("evaluation/record.py", "train/test_training.py -k 'evaluate_and_sample or distances or spread'",
        ("standard error is the deviation", "bits.std() / len(bits) ** 0.5", "bits.std()"),
        ("distances in shares of the image",
         "float(np.prod(source.shape)) ** -0.5", "1 / float(np.prod(source.shape))"),
        ("spread of a population", "{stdev(bits):.3f}", "{(stdev(bits) / 2**0.5):.3f}"),
        ("samples at temperature 1", "label=label, temperature=temperature)", "label=label)"),
        ("importance samples as samples", "importance_samples=importance_samples, seed=seed", "seed=seed"),
    ),
]
# fmt: on
