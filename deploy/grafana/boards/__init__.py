"""The dashboards, one module each."""

from deploy.grafana.boards import campaigns, jobs, overview, run, system, values, workflow

BOARDS = (overview.board, workflow.board, run.board, jobs.board, values.board, campaigns.board, system.board)
"""Functions that make a dashboard each, in the order of the links at its top."""
