"""Is the instrument sound? `doctor` says whether the gate can run on a checkpoint, here."""
