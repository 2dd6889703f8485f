"""AdaBin's published CIFAR-10 ResNet-20 (``resnet20_1w1a_model.th``)."""

from bitfold.data.cifar import blank
from bitfold.importers.base import Published

FORMAT = Published(
    summary="AdaBin's ResNet-20 with 1-bit weights and activations for CIFAR-10, by its authors (Tu et al. 2022, arXiv 2208.08084)",
    source="huawei-noah/Efficient-Computing, BinaryNetworks/AdaBin",
    recipe="adabin_resnet20_cifar10",
    changes=("name=adabin_resnet20_cifar10_published",),
    data=blank("cifar10"),
    rename=(
        (r"^module\.", ""),  # nn.DataParallel's
        (r"\.binary_a\.(alpha|beta)_a$", r".act_quant.\1"),
        (r"\bnonlinear([12])\.(pos|neg)_scale$", r"act\1.\2"),
    ),
    notes=("best_prec1",),
)
