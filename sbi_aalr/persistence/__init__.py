"""What goes to disk and comes back: no code in it is ever run."""
