"""The help of a training that fits a screen. No torch."""

import textwrap

from glimpse.cli.train.options.names import families_by_name
from glimpse.cli.train.options.signatures import keys_of, text_of
from glimpse.cli.train.recipes import DEFAULT_RECIPE, recipes

DATASETS_MODULE = "glimpse.data.datasets"
AUGMENTATION_MODULE = "glimpse.data.augmentation"

TRAIN_HELP = """\
usage: {program} DIR [--minutes N] [--data.OPTION VALUE]
       {program} [fit] [--config RECIPE] [--data.OPTION VALUE] [--model.OPTION VALUE] [--trainer.OPTION VALUE]

Train a model of visual attention. With a folder of images, one folder a class: several models are tried, and validation
images choose one, in 20 minutes or as --minutes says. Without arguments: the recipe {default!r}.

recipes (a name, or the path of a YAML file of your own; of several, the later ones win; options win over them all):
  {recipes}

the options most often wanted (one that is true or false is a flag: --data.download is --data.download true):
  --data.dataset NAME         {datasets} (one folder a class)
  --data.root DIR             where the data set lies; else the environment variable GLIMPSE_DATA, else ./data
  --data.download             let torchvision download what is not there
  --data.canvas_height N      draw the images onto canvases (and --data.canvas_width, --data.num_pieces)
  --data.augmentation NAME    {augmentations}, of images without a canvas (and --data.flips)
  --model FAMILY              {families}
  --model.num_glimpses N      glimpses in an episode
  --model.glimpse_size N      side of a glimpse in pixels (and --model.num_scales)
  --model.score NAME          of SoftAttentionTraining: dot, scaled-dot, general, additive, location, content
  --model.backbone NAME       a network of torchvision or timm (and --model.backbone_weights, --model.freeze)
  --model.teacher FILE        a checkpoint whose beliefs are imitated (and --model.teacher_weight)
  --model.class_weights NAME  none, or balanced: each class weighs the same however few images it has
  --trainer.max_epochs N      how long to train
  --trainer.precision P       auto (bf16-mixed where the hardware has instructions for it), 32-true, bf16-mixed
  --seed N                    fixes the whole run: weights, order, canvases, exploration
  --output DIR                where the run goes; runs/RECIPE when left out
  --overwrite                 replace the run that the output folder holds
  --early_stopping N          stop after N epochs without a better model on the validation images
  --finetune FILE             begin with the weights of a checkpoint; other classes get a new classifier
  --logger NAME               csv, mlflow, tensorboard or wandb, beside the run's metrics.csv
  --resume RUN                go on with a run that was stopped, as it would have gone on: its folder, or its name
  --trainer.devices N         share each batch between N processes: the cores of a processor, or so many GPUs
  --help-all                  every option there is

examples:
  {program} ~/images --minutes 10
  {program} --config cluttered-60-8 --data.root ~/data --model.num_glimpses 6
  {program} --data.dataset folder --data.root ~/images --output runs/mine
  {program} --finetune runs/mine/best.ckpt --data.root ~/others

training uses one thread unless OMP_NUM_THREADS is set"""


def short_help(program: str) -> str:
    """Help that fits a screen."""
    families = textwrap.fill(", ".join(families_by_name()), 88)
    return TRAIN_HELP.format(
        datasets=f"{', '.join(keys_of(DATASETS_MODULE, 'SOURCES'))}, or {text_of(DATASETS_MODULE, 'FOLDER')}",
        augmentations=", ".join(keys_of(AUGMENTATION_MODULE, "AUGMENTATIONS")),
        program=program,
        default=DEFAULT_RECIPE,
        recipes=textwrap.indent(textwrap.fill(", ".join(sorted(recipes())), 116), "  ").lstrip(),
        families=textwrap.indent(families, 30 * " ").lstrip(),
    )
