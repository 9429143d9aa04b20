"""The engine that draws from a log-posterior; it knows nothing of sbi's posteriors."""
