"""What the training scripts share: networks and their forward for training, optimisers, schedule, processes, files."""
