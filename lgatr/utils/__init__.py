"""Small helpers without physics."""
