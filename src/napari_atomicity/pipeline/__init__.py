"""From files to tables: one image, folders, batches, watched folders, adaptation."""
