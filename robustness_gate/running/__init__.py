"""Running of trials: `trial` runs one, `executors/` run many, and `recording` writes into the ledger."""
