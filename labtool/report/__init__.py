"""Tables and findings → figures → one HTML file."""
