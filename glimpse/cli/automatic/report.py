"""What a choice found, as JSON and as one page."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from glimpse.cli.usage import invocation
from glimpse.files import write_whole

if TYPE_CHECKING:
    from glimpse.cli.automatic.command import Choice
    from glimpse.cli.automatic.survey import Survey
    from glimpse.cli.automatic.trials import Trial
    from glimpse.data.datamodule import ImageData

FIGURES = "choice.json"


def write_report(output: Path, survey: "Survey", choice: "Choice", final: "Trial", data: "ImageData") -> None:
    """Write the figures, and print them.

    Args:
        output: The run's folder.
        survey: What the images are like.
        choice: What was tried and chosen.
        final: The model that is recommended.
        data: What it was trained on.
    """
    figures = {
        "images": survey.describe(),
        "balanced": choice.balanced,
        "chosen": final.candidate.name,
        "model": str(final.checkpoint),
        "trials": [
            {
                "name": trial.candidate.name,
                "reason": trial.candidate.reason,
                "options": list(trial.candidate.options),
                "epochs": trial.epochs,
                "seconds": round(trial.seconds, 1),
                "validation_error": trial.error,
                "validation_balanced_error": trial.balanced_error,
            }
            for trial in (*choice.trials, *([final] if final not in choice.trials else []))
        ],
    }
    write_whole(output / FIGURES, json.dumps(figures, indent=2) + "\n")
    print(f"\nthe model: {final.checkpoint} (validation error {100 * final.error:.2f} %)")
    print(f"next: {invocation()} evaluate {final.checkpoint}")
