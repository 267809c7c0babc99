"""MNIST by PyTorch's usual script, its hidden layers trained by GAIT-prop: five lines differ.

python examples/mnist_torch.py --data data

It needs torchvision, which fetches MNIST where --data has none.
"""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from gaitprop.nn import InvertibleLinear, orthogonality_penalty  # instead of: (nothing)


def main(arguments=None):
    """Trains, and prints the test accuracy after every epoch."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="data", help="where MNIST is, or is downloaded to")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=60)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    options = parser.parse_args(arguments)

    torch.manual_seed(0)
    image = transforms.ToTensor()
    train = datasets.MNIST(options.data, train=True, download=True, transform=image)
    test = datasets.MNIST(options.data, train=False, download=True, transform=image)
    batches = DataLoader(train, batch_size=options.batch_size, shuffle=True)

    model = nn.Sequential(
        nn.Flatten(),
        InvertibleLinear(784, 784),  # instead of: nn.Linear(784, 784), nn.LeakyReLU(0.1),
        InvertibleLinear(784, 784),  # instead of: nn.Linear(784, 784), nn.LeakyReLU(0.1),
        InvertibleLinear(784, 784),  # instead of: nn.Linear(784, 784), nn.LeakyReLU(0.1),
        nn.Linear(784, 10),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    for epoch in range(1, options.epochs + 1):
        for images, labels in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss += 0.001 * orthogonality_penalty(model)  # instead of: (nothing)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {accuracy(model, test):.2%} of the test set", flush=True)


@torch.no_grad()
def accuracy(model, data):
    """The share of the images that are answered right."""
    hits = [(model(images).argmax(1) == labels) for images, labels in DataLoader(data, 1000)]
    return float(torch.cat(hits).double().mean())


if __name__ == "__main__":
    main()
