"""What authors and teachers run: building, recording, checking and publishing the notebooks."""
