"""Workflow specs: YAML read, checked and made a workflow."""
