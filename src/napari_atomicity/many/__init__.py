"""More images than one sitting: batches on many workers, and a folder that is watched."""
