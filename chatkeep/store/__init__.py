"""The database: connections, one module per table, migrations, and the journal through which every write goes."""
