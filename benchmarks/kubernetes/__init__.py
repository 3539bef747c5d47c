"""Job sets on a Kubernetes cluster, beside what else one could do."""
