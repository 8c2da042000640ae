"""Lightning callbacks around training steps."""
