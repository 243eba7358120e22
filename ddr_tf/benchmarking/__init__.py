"""What this machine reaches, and the report of it."""
