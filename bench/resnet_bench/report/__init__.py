"""What people see of a comparison: a table, CSV and a page with plots."""
