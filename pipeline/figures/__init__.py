"""Figures: tables in, matplotlib figures out; no files, no pyplot, no global state.

A history is a table as pipeline/training/history.py describes it: one row an epoch and seed,
epoch 0 the untrained network. ``seeds`` is the table of pipeline/results/seeds_table.py: a row a
model and seed, accuracies as fractions of 1. Trials are as pipeline/results/trial_ranking.py
describes them. Models and rules are drawn and named in the order in which they are given. The same
tables give the same bytes of SVG, whatever the user's matplotlibrc.
Figures are made at the size at which they are printed, 7.1 inches wide at most, in 8 pt type.
"""

from pipeline.figures.accuracy import final_accuracy
from pipeline.figures.best_so_far import best_accuracies
from pipeline.figures.heatmap import heat_map
from pipeline.figures.layer_panels import alignment, orthogonality
from pipeline.figures.learning import learning_curves, model_curves
from pipeline.figures.style import WIDTH, StyledFigure, model_label, style
from pipeline.figures.trade_off import can_draw_trade_off, trade_off

__all__ = [
    "WIDTH",
    "StyledFigure",
    "alignment",
    "best_accuracies",
    "can_draw_trade_off",
    "final_accuracy",
    "heat_map",
    "learning_curves",
    "model_curves",
    "model_label",
    "orthogonality",
    "style",
    "trade_off",
]
