"""The ticker, the pure machines, and the async code that performs what they decide."""
