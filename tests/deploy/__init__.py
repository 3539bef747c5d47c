"""What is deployed beside the package: see also tests/compose."""
