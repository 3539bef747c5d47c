"""Jobs on this machine: one detached supervisor process per submitted round.

::

    spool/<key of the round>/
        jobs.json         what was submitted; never changed
        host              where: the only machine that may judge whether the supervisor lives
        events.jsonl      what happened, appended and fsynced by whoever holds the lock
        supervisor.lock   flocked as long as the supervisor lives
        starts            one byte for each attempt to start a supervisor
        requests/         removals that the supervisor is to obey
        supervisor.out    its standard output and error, in case that it fails
    spool/slots/<host>/   the concurrency limit of the host, shared by all supervisors

A round is supervised at most once: a supervisor that finds another's mark in the log leaves. When a supervisor has
died, whoever looks next kills what it left and records its unfinished jobs as lost. Linux only (``/proc``).
"""
