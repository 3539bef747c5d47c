"""The project's own HTCondor pool: a private one for each test run, without Docker (see :mod:`tests.pool.pool`)."""
