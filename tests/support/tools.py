"""Programs of other people that tests run; `.ci/run` installs them, and CI fails where one is missing."""

import shutil

import pytest

needs_h2load = pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load (Debian: nghttp2-client) is not on this machine")
