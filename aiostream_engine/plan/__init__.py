"""What was asked, as frozen data: no I/O, no event loop, nothing runs while a plan is built."""
