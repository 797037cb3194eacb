"""Signal processing: pure functions without parameters."""
