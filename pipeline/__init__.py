"""The experiments: configuration, data, DVC stages, tracking, the `gait` command."""
