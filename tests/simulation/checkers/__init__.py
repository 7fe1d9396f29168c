"""What must be true: small classes, told of events, raising `Violation`. `everything` has the lists."""
