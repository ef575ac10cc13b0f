"""What serving costs, and what it grows with: ``python -m tests.benchmarks`` (``make bench``)."""
