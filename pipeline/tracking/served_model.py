"""What MLflow loads as a trained model: it copies this file beside the weights and runs it there.

Nothing is unpickled, and nothing of this project is needed: numpy computes the forward pass
y_l = f(W_l R_l y_{l-1} + b_l), where R_l reads the first units or a convolution's patches, so that
a machine that serves needs no PyTorch either.
"""

from __future__ import annotations

import json
from typing import Any

import numpy
import safetensors
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class Classifier(PythonModel):
    """The networks of all seeds, of which each prediction uses one."""

    def load_context(self, context: Any) -> None:
        """Reads the artifact ``network``, as ``pipeline.training.model_files`` wrote it."""
        with safetensors.safe_open(context.artifacts["network"], framework="numpy") as file:
            described = json.loads(file.metadata()["network"])
            architecture = described["architecture"]
            self._layers: list[dict[str, Any]] = architecture["layers"]
            self._shape: list[int] = architecture["input_shape"]
            layers = range(1, len(self._layers) + 1)
            self._weights = [file.get_tensor(f"weight_{layer}") for layer in layers]
            self._biases = [file.get_tensor(f"bias_{layer}") for layer in layers]
        self._slope: float = described["negative_slope"]
        self._seeds: list[int] = described["seeds"]
        self._classes: int = context.model_config["classes"]

    def predict(
        self,
        context: Any,  # noqa: ARG002
        model_input: numpy.ndarray,
        params: dict[str, Any] | None = None,
    ) -> numpy.ndarray:
        """The class of each image.

        Args:
            context: MLflow's; not used.
            model_input: (N, inputs), pixels from 0 to 1.
            params: ``seed`` chooses the network; without it the first one answers.

        Returns:
            (N,), int64.

        Raises:
            MlflowException: no network has this seed.
        """
        seed = (params or {}).get("seed", self._seeds[0])
        if seed not in self._seeds:
            allowed = ", ".join(map(str, self._seeds))
            raise MlflowException.invalid_parameter_value(
                f"seed: received {seed}; allowed: {allowed}"
            )
        outputs = self._outputs(model_input, self._seeds.index(seed))
        classes: numpy.ndarray = outputs[:, : self._classes].argmax(1)
        return classes

    def _outputs(self, images: numpy.ndarray, network: int) -> numpy.ndarray:
        values = images.astype(self._weights[0].dtype).reshape(len(images), *self._shape)
        for layer, weights, biases in zip(self._layers, self._weights, self._biases, strict=True):
            weight, bias = weights[network], biases[network]
            if "channels" in layer:
                # (N, positions down, positions across, outputs), then channels first again.
                hidden = (_patches(values, layer) @ weight.T + bias).transpose(0, 3, 1, 2)
            else:
                hidden = values.reshape(len(values), -1)[:, : weight.shape[-1]] @ weight.T + bias
            values = numpy.where(hidden > 0, hidden, self._slope * hidden)
        return values.reshape(len(values), -1)


def _patches(values: numpy.ndarray, layer: dict[str, Any]) -> numpy.ndarray:
    """(N, C, height, width) to (N, positions down, positions across, channels · k · k)."""
    k, stride, margin = layer["kernel_size"], layer["stride"], layer["padding"]
    padded = numpy.pad(values, ((0, 0), (0, 0), (margin, margin), (margin, margin)))
    read = padded[:, : layer["channels"]]
    windows = numpy.lib.stride_tricks.sliding_window_view(read, (k, k), (2, 3))
    at = windows[:, :, ::stride, ::stride].transpose(0, 2, 3, 1, 4, 5)
    return at.reshape(*at.shape[:3], -1)


set_model(Classifier())
