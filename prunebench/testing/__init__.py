"""What a method's author tests with: tiny models of each architecture, and the conformance kit."""
