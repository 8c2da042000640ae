"""Fast implementations behind the primitives, each beside a plain reference."""
