"""The log as SQLite tables, and the questions asked of them."""
