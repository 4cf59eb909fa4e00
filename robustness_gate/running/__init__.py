"""Who runs the trials: `trial` is one of them, `executors/` where they run."""
