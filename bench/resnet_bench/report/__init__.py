"""What people see of a result: tables, CSV and a page with plots."""
