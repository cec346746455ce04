"""MLflow's REST protocol on our own store, for its clients as they are."""
