"""What the demo model does, measured."""
