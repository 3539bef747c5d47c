"""``python -m benchmarks.condor``: what job sets on an HTCondor pool cost, beside others on the same pool.

Every figure is a ratio from one run, or a figure with the state of the machine beside it; none is a timed test. It
needs what the tests of the HTCondor backend need: root, and a pool of their own (:mod:`tests.pool`).
"""
