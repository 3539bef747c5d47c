"""Ratios beside a peer, in one run. Never part of CI."""
