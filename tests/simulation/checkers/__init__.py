"""What must be true, each a small class with a name, told of events, raising a `Violation`."""
