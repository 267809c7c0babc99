"""One experiment: set up, identified, trained, kept, and gone on with."""
