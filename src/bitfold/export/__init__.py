"""PyTorch -> IR (trace, fold, pack) and the proof that both compute the same."""
