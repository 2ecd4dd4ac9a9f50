"""What every other part stands on; knows nothing of actors, HTTP or analytics."""
