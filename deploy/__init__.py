"""What an installation needs beside the package: dashboards, and the services of docker-compose.yaml."""
