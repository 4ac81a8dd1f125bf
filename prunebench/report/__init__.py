"""Reports: made from records alone, so that they can be made again anywhere."""
