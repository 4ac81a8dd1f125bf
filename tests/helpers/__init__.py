"""What several test modules use: tiny models, texts, records, displays, methods that break the contract."""
