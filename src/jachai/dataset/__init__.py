"""Collections of scans → manifests → splits that cannot leak → patches for training and tests."""
