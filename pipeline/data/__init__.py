"""Image sets: which there are, and their images as tensors. Packages import from here."""

from pipeline.data.image_sets import ImageSet

__all__ = ["ImageSet"]
