"""Steps from one version of `state.db` to the next, run by alembic. A step that was released never changes."""
