"""What trained models give: figures on the test set, tables, comparisons, provenance."""
