"""What building DAGs from YAML files costs beside plain Python that builds as many."""
