"""What is served: the repository on disk, its versions loaded and certified here, and the registry of those that are ready."""
