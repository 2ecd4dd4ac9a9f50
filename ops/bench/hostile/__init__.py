"""What good clients notice of two thousand bad ones: ``python -m ops.bench.hostile``."""
