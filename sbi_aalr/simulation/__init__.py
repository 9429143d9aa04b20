"""From any simulator that sbi accepts to batches of simulations."""
