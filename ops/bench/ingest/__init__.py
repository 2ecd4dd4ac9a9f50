"""How fast days of GA4 events become figures, beside dlt; see docs/benchmarks.md."""
