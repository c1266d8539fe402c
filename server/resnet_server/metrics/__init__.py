"""All Prometheus metrics, and one scrape over several processes."""
