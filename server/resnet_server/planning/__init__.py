"""Plans: how many engines of how many threads compute which precision in batches of which size; measured, not tuned by hand."""
