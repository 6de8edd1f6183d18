"""Does in Python what erkeras train, attack --card, verify, detectors and export do: a minute on two cores.

python examples/whole_path.py FOLDER
"""

import dataclasses
import sys
from pathlib import Path

import erkeras

folder = Path(sys.argv[1]) / "digits"
digits = erkeras.load_dataset("digits")
recipe = dataclasses.replace(erkeras.find_recipe("default", "digits", digits.image_shape), epochs=5)
card = erkeras.train(erkeras.Job("digits", recipe, restarts=1, command="python examples/whole_path.py"), folder)
print("trained:", card.evaluation.summary.attacks)

evaluation = erkeras.Evaluation(folder, ["fgsm", "apgd-ce"], limit=100, card=True)
print("attacked:", evaluation.run().robust_accuracy)
print("verified:", erkeras.verify_record(evaluation.folder).holds)

asked = erkeras.DetectorComparison((folder,), pair=("fgsm", "pgd"), detectors=("er1", "er2"), steps=5)
figures, _ = erkeras.compare_detectors(asked)
print("detectors:", {cell["detector"]: cell["acc_com"] for cell in figures["cells"] if cell["positives"] == "all"})

saved = erkeras.load(folder)
print("exported:", erkeras.export_version(folder).name, erkeras.load(folder).card.evaluations[0].title)
erkeras.save(saved.model, folder.with_name("copy"), detector=saved.detector, dataset=digits)
print("verdicts:", erkeras.load(folder.with_name("copy")).detector.predict(digits.test.images[:5]).verdict)
