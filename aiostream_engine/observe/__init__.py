"""What happened, as records: one bounded stream that feeds listeners, statistics and views."""
