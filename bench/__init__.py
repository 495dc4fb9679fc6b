"""What is compared and how. Results are printed, not committed as truth: figures are ratios within one run."""
