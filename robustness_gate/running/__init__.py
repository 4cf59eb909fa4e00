"""Running of trials: `trial` runs one, `executors/` run many."""
