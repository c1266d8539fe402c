"""Front ends in processes of their own, for machines whose cores outrun one Python process: one port, the same engines."""
