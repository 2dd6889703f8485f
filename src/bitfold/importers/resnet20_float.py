"""The float32 CIFAR-10 ResNet-20 that many papers start from (``resnet20-12fca82f.th``)."""

from bitfold.data.cifar import blank
from bitfold.importers.base import Published

FORMAT = Published(
    summary="ResNet-20 in float32 for CIFAR-10 (option-A shortcuts, ReLU), by Yerlan Idelbayev",
    source="akamaster/pytorch_resnet_cifar10, pretrained_models",
    recipe="float_resnet20_cifar10",
    changes=(
        "name=float_resnet20_cifar10_published",
        "data.normalize=imagenet",
        "stage.epochs=200",
        "stage.milestones=[100, 150]",
        'claim={accuracy = 91.73, source = "README of the repository (test error 8.27 %), from memory"}',
    ),
    data=blank("cifar10"),
    rename=((r"^module\.", ""),),
    fresh=("*.num_batches_tracked",),  # saved by a PyTorch that did not have it yet; evaluation does not use it
    notes=("best_prec1",),
)
