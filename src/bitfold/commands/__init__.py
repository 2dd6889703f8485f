"""What the commands of ``bitfold.cli`` do, so that the command line itself starts without PyTorch."""
