"""Images as a network reads them: of its own dtype, or bytes that become 0…1."""

from __future__ import annotations

import torch
from torch import Tensor

from gaitprop.arguments import check_device, whole_number
from gaitprop.errors import ArgumentError


def inputs(images: Tensor, dtype: torch.dtype, maximum: int) -> Tensor:
    """What a network reads of images of its own dtype, or of uint8 ones of 0…maximum."""
    if images.is_floating_point():
        return images
    # By way of float32 whatever the dtype: images are the same ones in every precision.
    return images.to(torch.float32).div_(maximum).to(dtype)


def check_images(
    images: Tensor, width: int, like: Tensor, maximum: int, name: str = "images"
) -> None:
    """Looks at a whole set once; the host waits for it.

    Args:
        images: to be (N, width), of this dtype and finite, or uint8 of 0…maximum.
        width: inputs of the network.
        like: of the network's dtype and device.
        maximum: what uint8 images are divided by, 1 to 255.
        name: what an error calls them.

    Raises:
        ArgumentError: they are not.
    """
    dtype = like.dtype
    allowed = f"a tensor (N, {width}) of {dtype} or torch.uint8"
    if not isinstance(images, Tensor):
        raise ArgumentError(f"{name} are a {type(images).__name__}; allowed: {allowed}")
    if (
        images.dtype not in (dtype, torch.uint8)
        or images.shape[1:] != (width,)
        or images.dim() != 2
    ):
        raise ArgumentError(
            f"{name} are {images.dtype} of shape {tuple(images.shape)}; allowed: {allowed}"
        )
    check_device(name, images, like.device)
    if not len(images):
        return
    if images.is_floating_point():
        if not images.isfinite().all():
            raise ArgumentError(f"{name} hold NaN or inf; allowed: finite numbers")
        return
    if not 1 <= whole_number("maximum", maximum) <= 255:
        raise ArgumentError(f"maximum is {maximum!r}; allowed: a whole number of 1 to 255")
    if (largest := int(images.max())) > maximum:
        raise ArgumentError(
            f"{name} reach {largest}, and maximum is {maximum}; allowed: 0 to maximum, by which"
            " they are divided"
        )
