"""Charts: tables in, Vega-Lite specifications out; the page's style sheet gives the colours.

A colour is a CSS variable, so a chart that is drawn follows light, dark and print by itself. Data
are inline and rounded to what can be read. A chart of trainings is of one case, a data set and
architecture, which is part of its name. Nothing is named by Altair, whose names are counted
from the start of the process.
"""

from pipeline.report.charts.chart_look import Chart, dash_lengths, layer_colours
from pipeline.report.charts.claim_charts import FORMS, PRECISIONS, differences, error_against_depth
from pipeline.report.charts.layer_charts import alignment, orthogonality
from pipeline.report.charts.sweep_charts import heat_maps
from pipeline.report.charts.training_charts import final_errors, learning

__all__ = [
    "FORMS",
    "PRECISIONS",
    "Chart",
    "alignment",
    "dash_lengths",
    "differences",
    "error_against_depth",
    "final_errors",
    "heat_maps",
    "layer_colours",
    "learning",
    "orthogonality",
]
