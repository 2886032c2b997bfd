"""Pictures that are no digits: photographs that come with scikit-image, and files."""

from course_utils.pictures.opening import PictureError
from course_utils.pictures.photographs import PHOTOGRAPHS, luminance, photograph

__all__ = ["PHOTOGRAPHS", "PictureError", "luminance", "photograph"]
