"""One interface to the places where tasks run; each place is one file or folder."""
