"""What params.yaml may say, and what its models and settings are called."""
