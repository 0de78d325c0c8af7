"""Right, wrong and broken implementations, to test the checker with."""
