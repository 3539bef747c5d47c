"""Jobs on an HTCondor pool: one late-materialized cluster per submitted round.

::

    spool/condor/<connection>/<key of the round>/
        jobs.json         which proc of the cluster is which attempt of which job; never changed once submitted
        submit.json       the submit description, and the columns of the item data
        items             the item data: a line for each proc
        job.sh            what every proc executes; the item data say what that is for each
        lock              flocked while somebody submits
        tried             a submission was begun
        schedd            the name of the schedd that has it
        cluster           the cluster's number: the round is submitted
        log               HTCondor's event log of the cluster
        removed           procs that were removed before they were materialized

All network calls to a pool are made by a helper process per connection (:mod:`.helper`, :mod:`.calls`): the bindings
hold the interpreter's lock while they wait, so that a schedd that accepts a connection and stays silent would stop
every other thread of a triggerer. The helper is killed when an answer takes too long.

What happens to jobs is read from the event log, which costs no network call; only what it does not explain is asked
of the schedd, for all rounds of a connection at once (:mod:`.survey`).
"""
