"""MLflow: its store, what is sent there, and models as it loads them."""
