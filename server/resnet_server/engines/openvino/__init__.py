"""OpenVINO as a runtime: imported only by processes that compute with it, never by one that answers callers."""
