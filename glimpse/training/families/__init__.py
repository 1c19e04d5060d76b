"""The families of models, by the name that checkpoints and cards give them."""

from glimpse.training.classifier import ClassifierTraining
from glimpse.training.families.focus import FocusTraining
from glimpse.training.families.hard import HardAttentionTraining
from glimpse.training.families.relaxed import RelaxedAttentionTraining
from glimpse.training.families.soft import SoftAttentionTraining
from glimpse.training.families.whole_image import ConvolutionalTraining, FullyConnectedTraining, SelfAttentionTraining

FAMILIES: dict[str, type[ClassifierTraining]] = {
    family.kind: family
    for family in (
        HardAttentionTraining,
        RelaxedAttentionTraining,
        SoftAttentionTraining,
        SelfAttentionTraining,
        ConvolutionalTraining,
        FullyConnectedTraining,
        FocusTraining,
    )
}
