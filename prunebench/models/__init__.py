"""Models: found, loaded, hashed, saved, and worked on block by block when they are larger than memory."""
