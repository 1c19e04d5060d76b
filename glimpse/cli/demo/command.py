"""``glimpse demo``: train, evaluate, export and classify on the embedded digits, and write a page about it.

torch is imported when it runs.
"""

import argparse
import time
from pathlib import Path

from glimpse.cli.parser import add_output_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments to its parser."""
    add_output_folder(parser, "demo")


def run(args: argparse.Namespace) -> int:
    """Train, evaluate, export, classify, and write the page.

    Args:
        args: The arguments of :func:`add_arguments`.

    Returns:
        The exit status: 0, or that of the training when it fails.
    """
    from glimpse.cli.demo.examples import classify_examples
    from glimpse.cli.demo.report import PAGE, demo_summary, write_charts, write_demo_page, write_evaluation
    from glimpse.cli.evaluate import evaluate_checkpoint
    from glimpse.cli.train.command import main as train
    from glimpse.export.checkpoint import export_checkpoint
    from glimpse.runtime.session import GlimpseSession
    from glimpse.training.checkpoint import load_training

    folder: Path = args.output
    (folder / PAGE).unlink(missing_ok=True)
    began = time.monotonic()
    print(f"1/4  training the default recipe into {folder / 'run'}", flush=True)
    status = train(["fit", "--config", "digits", "--output", str(folder / "run"), "--overwrite"], args.program)
    if status:
        return status
    trained = time.monotonic() - began
    checkpoint = folder / "run" / "last.ckpt"
    print("2/4  evaluating on held-out test images, under the model's own fixations and others", flush=True)
    evaluation = evaluate_checkpoint(checkpoint)
    write_evaluation(evaluation, folder)
    print("3/4  exporting to ONNX and comparing the file with the model", flush=True)
    exported = export_checkpoint(checkpoint, folder / "model.onnx")
    print("4/4  classifying held-out images with the exported file", flush=True)
    _, data = load_training(checkpoint)
    examples = classify_examples(GlimpseSession(exported.path), data, folder)
    write_charts(evaluation, exported, folder)
    write_demo_page(evaluation, exported, examples, trained, folder)
    print(demo_summary(evaluation, exported, examples, trained, folder))
    return 0
