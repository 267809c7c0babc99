"""GAIT-prop equals backpropagation: measured, bounded, and published evaluation beside it."""
