"""The models of the lessons, as the lessons define them (a test holds the two together)."""

from course_utils.models.loss_network import (
    chosen_loss_network,
    crops_of,
    load_loss_network,
    save_loss_network,
)
from course_utils.models.networks import (
    MLP,
    Autoencoder,
    LeNet,
    LitAutoEncoder,
    LitLeNet,
    LitMLP,
)
from course_utils.models.style import LitStyle, TransformNet, within_memory

__all__ = [
    "MLP",
    "Autoencoder",
    "LeNet",
    "LitAutoEncoder",
    "LitLeNet",
    "LitMLP",
    "LitStyle",
    "TransformNet",
    "chosen_loss_network",
    "crops_of",
    "load_loss_network",
    "save_loss_network",
    "within_memory",
]
