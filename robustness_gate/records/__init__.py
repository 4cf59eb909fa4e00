"""What travels between the rooms, and the one place where it becomes bytes (`records.encode`)."""
