"""Charts: tables in, Vega-Lite specifications out; the page's style sheet gives the colours.

A colour is a CSS variable, so a chart that is drawn follows light, dark and print by itself. Data
are inline and rounded to what can be read. A chart of trainings is of one case, a data set and
architecture, which is part of its name. Nothing is named by Altair, whose names are counted
from the start of the process.
"""
