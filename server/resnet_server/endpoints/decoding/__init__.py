"""Images are decoded in processes that may be killed: what hostile bytes cost, they cost there, and it ends with their call."""
