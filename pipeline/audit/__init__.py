"""What is recorded, checked: traced back to its origins, and made again."""
