"""What the dashboard notices of the data group at work: ``python -m ops.bench.isolation``."""
