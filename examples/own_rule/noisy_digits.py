"""scikit-learn's digits under Gaussian noise, which makes them harder to tell apart."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from pipeline.data import ImageSet

NOISE = 4  # standard deviation; pixels are 0 to 16


def read():
    """Training images and labels, then the test set's; the noise is the same each time."""
    images, labels = load_digits(return_X_y=True)
    noise = np.random.default_rng(0).normal(0, NOISE, images.shape)
    images = np.clip(np.rint(images + noise), 0, 16)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=0.2, stratify=labels, random_state=0
    )
    return train_images, train_labels, test_images, test_labels


noisy_digits = ImageSet(
    "noisy_digits", "Noisy digits", inputs=64, classes=10, maximum=16, read=read
)
