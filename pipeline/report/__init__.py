"""The report: the paper's claims one by one, judged from the results, as a page and as JSON."""
