"""What people read, from either front end: sentences, tables, pages, units."""
