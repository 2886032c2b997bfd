"""The digits: where MNIST comes from, as data for training, and digits of one's own."""

from course_utils.digits.data import (
    MEAN,
    STD,
    DigitImages,
    MNISTDataModule,
    ShuffleSampler,
    keep_batch,
    seeded,
)
from course_utils.digits.drawing import RECORDED, from_picture, from_strokes
from course_utils.digits.mnist import find_mnist

__all__ = [
    "MEAN",
    "RECORDED",
    "STD",
    "DigitImages",
    "MNISTDataModule",
    "ShuffleSampler",
    "find_mnist",
    "from_picture",
    "from_strokes",
    "keep_batch",
    "seeded",
]
