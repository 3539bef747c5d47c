"""Jobs on a Kubernetes cluster: one Indexed Job for each class of the jobs of a round.

A class is what one pod template can run: the same request for resources, the same time limit. The cluster runs each
index once; what is tried again, and when enough has succeeded, the ledger decides, as for any backend.

What happens to jobs is read from records that the starter, the first process of each pod (:mod:`.starting`), leaves in
the spool, which costs no request. All Jobs of a connection are listed every few seconds; pods, events and logs are
asked for only where a Job has something new that no record explains (:mod:`.survey`), so that the number of requests
does not grow with that of the jobs. Whoever holds the lock of a round writes what was seen into its log
(:mod:`.watch`), from which everybody is told.
"""
