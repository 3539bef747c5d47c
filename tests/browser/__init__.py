"""A real browser in which tests click through Airflow's UI as a person does.

The browser is Debian's `chromium`, installed where it is missing; PyPI's `playwright` drives it. `Person` is who
clicks; `python -m tests.browser` makes the pictures of the docs anew.
"""
