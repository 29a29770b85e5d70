"""Tables, row-level security, migrations and sessions."""
