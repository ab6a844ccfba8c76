"""From files to tables: images, batches, watched folders, adaptation."""
