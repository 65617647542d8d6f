"""The database of what is committed. All SQL of the project is in this room."""
