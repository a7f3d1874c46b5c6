"""The loop that people write: ImageFolder, a DataLoader with two workers, fp32, the test at the end."""

import torch
from experiments.peers.task import Task
from torch.nn.functional import cross_entropy
from torchvision import models, transforms
from torchvision.datasets import ImageFolder


def main() -> None:
    """Train all layers with Adam, keep the epoch with the best validation accuracy, and predict the test images."""
    task = Task.from_command_line()
    torch.manual_seed(task.seed)
    shape = [transforms.Resize(256), transforms.CenterCrop(task.image_size), transforms.ToTensor()]
    prepare = transforms.Compose([*shape, transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
    sets = {split: ImageFolder(f"{task.data}/{split}", prepare) for split in ("train", "val", "test")}
    loaders = {
        split: torch.utils.data.DataLoader(images, task.batch_size, shuffle=split == "train", num_workers=2)
        for split, images in sets.items()
    }
    network = models.get_model(task.network)
    network.load_state_dict(torch.load(task.weights))
    network.fc = torch.nn.Linear(network.fc.in_features, len(sets["train"].classes))
    optimizer = torch.optim.Adam(network.parameters(), task.learning_rate)
    best, kept = -1.0, network.state_dict()
    for epoch in range(task.epochs):
        network.train()
        for images, targets in loaders["train"]:
            optimizer.zero_grad()
            cross_entropy(network(images), targets).backward()
            optimizer.step()
        accuracy = (predicted(network, loaders["val"]) == torch.tensor(sets["val"].targets)).double().mean().item()
        print(f"epoch {epoch + 1}/{task.epochs}: validation accuracy {accuracy:.3f}", flush=True)
        if accuracy > best:
            best, kept = accuracy, {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(kept)
    classes = sets["test"].classes
    labels = [classes[number] for number in predicted(network, loaders["test"])]
    task.write_predictions(zip((path for path, _ in sets["test"].samples), labels, strict=True))


def predicted(
    network: torch.nn.Module, loader: "torch.utils.data.DataLoader[tuple[torch.Tensor, int]]"
) -> torch.Tensor:
    """Class numbers of all images of a loader."""
    network.eval()
    with torch.no_grad():
        return torch.cat([network(images).argmax(1) for images, _ in loader])


if __name__ == "__main__":
    main()
