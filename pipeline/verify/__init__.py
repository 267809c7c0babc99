"""`gait verify`: the theorem measured on this machine."""
