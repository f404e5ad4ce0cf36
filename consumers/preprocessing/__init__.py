"""Any file into tables, and a profile of each."""
