"""Programs that the process tests start."""
