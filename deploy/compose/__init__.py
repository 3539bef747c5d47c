"""The services of docker-compose.yaml: secrets, and what is set up at the first start."""
