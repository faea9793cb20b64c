"""Everything that is kept: the database's connections, its tables, and the journal through which every write goes."""
