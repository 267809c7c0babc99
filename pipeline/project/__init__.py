"""What everything else stands on: errors, files, paths, signals; nothing of experiments."""
