"""What every part stands on: threads and greenlets, the clock, logs, metrics, languages."""
