"""What was measured, append-only: `ledger` holds the records, `answers` the bits of right and wrong in them."""
