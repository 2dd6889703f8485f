"""``python -m bitfold``: the command line; ``torchrun --nproc-per-node 2 -m bitfold train ...`` starts several processes."""

from bitfold.cli import main

main()
