"""A real Kubernetes of one node for tests, without Docker: built from its Go module, private to a run of tests.

- Fixture ``namespace``: a namespace of its own for each test, in a cluster that all processes of a run share (RBAC and
  Pod Security are on). ``namespace.api`` has every right, ``namespace.account("default")`` is the file of a client's
  settings with the rights of a service account, ``namespace.airflow()`` one with those that deploy/kubernetes gives to
  Airflow, ``namespace.claim(folder)`` is a PersistentVolumeClaim on a folder of
  this machine. Folders of this machine are seen by the node under the same paths, for ``hostPath`` too.
- Fixture ``own_cluster``: a cluster of the module's own, for faults: ``kill``, ``launch``, ``restart``,
  ``stop_silently``, ``resume``, ``processes``.
- Images, for ``imagePullPolicy: Never``: ``tests.cluster.images.SHELL`` (busybox) and ``PLAIN`` (one program and no
  shell); ``cluster.load(name, folder, command)`` makes one of a folder.
- What uses one of these fixtures is marked ``kubernetes`` by itself.
- By hand: ``python -m tests.cluster build | up | status | run COMMAND... | kubectl ... | down``. ``up`` prints what
  to set.
- ``CALIB_TESTS_KUBECONFIG`` names the settings of a cluster of yours (kind, minikube), which the fixture ``namespace``
  then uses; the images must be there, and the node must see this machine's folders. ``KUBECONFIG`` alone is not
  taken: it may well be that of a cluster which people work on.
- ``CALIB_REQUIRE_KUBERNETES=1`` makes an error of a skip.
"""
