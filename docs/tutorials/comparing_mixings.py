import json
import shutil
from pathlib import Path

from nflows_woodbury.cli.main import main

shutil.rmtree("comparison", ignore_errors=True)  # that of an earlier build

# all runs
words = "--mixing conv1x1 periodic woodbury me-woodbury --seeds 3 --data photos --size 16"
model = "--levels 2 --steps 2 --hidden-channels 32"
training = "--max-steps 80 --learning-rate 2e-3 --every 80 --quiet --out comparison"
main(["compare", *words.split(), *model.split(), *training.split()])

# seed by seed
folders = Path("comparison").glob("*/record.json")
bits = {path.parent.name: json.loads(path.read_text())["bits_per_dim"] for path in folders}
for mixing in ("periodic", "woodbury", "me-woodbury"):
    differences = [bits[f"{mixing}-{seed}"] - bits[f"conv1x1-{seed}"] for seed in range(3)]
    print(f"{mixing:12} minus conv1x1, seed by seed: ", *(f"{difference:+.3f}" for difference in differences))
