"""Values shared by every room: geometry, volumes, findings, expected errors. Imports nothing of ours."""
